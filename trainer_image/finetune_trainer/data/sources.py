"""Where the files are that a source in the spec names.

Sources are mounted read-only by the operator, each claim and config map in a folder of its own. A
source may never reach outside the folder it names: claims of other people are mounted next to it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

from finetune_trainer.contract import ExitCode, Problem
from finetune_trainer.data.weights import DamagedWeights, MissingWeights, check_weights
from finetune_trainer.errors import TrainerError, blames_machine

MOUNTED: Final = ("pvc", "configmap")


def resolve(source: str, sources_root: str) -> Path:
    """The path that `source` names; whether something is there is not checked.

    pvc://claim/path -> `<root>/pvc/claim/path`, configmap://name/key ->
    `<root>/configmap/name/key`, file:///path -> /path.
    Raises TrainerError (10, BadSource) for anything else.
    """
    scheme, separator, rest = source.partition("://")
    if not separator or scheme not in (*MOUNTED, "file"):
        raise _bad(source, "must begin with pvc://, configmap:// or file:///")
    if ".." in PurePosixPath(rest).parts or "\0" in rest:
        raise _bad(source, "must not contain '..'")
    if scheme == "file":
        if not rest.startswith("/"):
            raise _bad(source, "needs an absolute path: file:///folder/file")
        return Path(rest)
    name, _, inner = rest.partition("/")
    if not name or (scheme == "configmap" and not inner.strip("/")):
        raise _bad(source, f"must be {scheme}://name/path")
    mount = Path(sources_root) / scheme / name
    path = mount / inner.lstrip("/")
    if not path.resolve().is_relative_to(mount.resolve()):
        raise _bad(source, "is a link that leaves its volume")
    return path


def data_file(source: str, sources_root: str) -> Path:
    """The file with the training data.

    Raises TrainerError (10) for a malformed source, (11, DataMissing) when no file is there.
    """
    return _readable_file("dataset.source", source, sources_root)


def evaluation_file(source: str, sources_root: str) -> Path:
    """The file with the evaluation data; raises what `data_file` raises."""
    return _readable_file("dataset.evalSource", source, sources_root)


def model_folder(source: str, sources_root: str) -> Path:
    """The model folder that `source` names, with its config.json and whole weights.

    Raises TrainerError (10) for a malformed source, (14, ModelMissing) when no model is there,
    (14, ModelUnusable) when its weights are cut off or no safetensors; OSError when storage fails.
    """
    path = resolve(source, sources_root)
    if not path.is_dir():
        raise _missing(ExitCode.MODEL, "model.source", source, why=_nearest(path))
    if not (path / "config.json").is_file():
        raise _missing(ExitCode.MODEL, "model.source", source, why=f"{path} has no config.json")
    try:
        check_weights(path)
    except MissingWeights as error:
        raise _missing(ExitCode.MODEL, "model.source", source, why=str(error)) from error
    except DamagedWeights as error:
        raise _unusable(source, str(error)) from error
    except OSError as error:
        if blames_machine(error):
            raise
        raise _unusable(source, str(error)) from error
    return path


def _readable_file(field: str, source: str, sources_root: str) -> Path:
    path, code = resolve(source, sources_root), ExitCode.DATA_UNREADABLE
    if path.is_dir():
        raise _missing(code, field, source, why=f"{path} is a folder, not a file")
    if not path.is_file():
        raise _missing(code, field, source, why=_nearest(path))
    if not os.access(path, os.R_OK):
        raise _missing(code, field, source, why=f"{path} may not be read by user {os.getuid()}")
    return path


def _nearest(path: Path) -> str:
    """Say that `path` is missing and what lies in the nearest folder that exists."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path("/"))
    names = sorted(each for each in os.listdir(folder) if not each.startswith("."))
    return f"{path} does not exist; {folder} holds {', '.join(names[:8]) or 'nothing'}"


def _bad(source: str, why: str) -> TrainerError:
    message = f"source {source!r} {why}"
    problem = Problem(code="bad_config", severity="error", message=message)
    return TrainerError(ExitCode.BAD_CONFIG, "BadSource", message, problems=(problem,))


def _missing(code: ExitCode, field: str, source: str, *, why: str) -> TrainerError:
    model = code is ExitCode.MODEL
    message = f"{field} {source}: {why}"
    problem = Problem(
        code="missing_model" if model else "missing_file", severity="error", message=message
    )
    reason = "ModelMissing" if model else "DataMissing"
    return TrainerError(code, reason, message, problems=(problem,))


def _unusable(source: str, why: str) -> TrainerError:
    message = f"model.source {source}: {why}"
    problem = Problem(code="unsupported_model", severity="error", message=message)
    return TrainerError(ExitCode.MODEL, "ModelUnusable", message, problems=(problem,))
