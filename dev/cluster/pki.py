"""Certificates for one cluster, made by the openssl command: one authority, one leaf per role."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.shell import Argument, run, write

_DAYS = "3650"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths of a certificate and its private key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A folder with ``ca.crt`` and ``ca.key``; what is issued lies beside them."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """What clients and servers of this cluster trust."""
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        """The authority's private key; controller-manager signs requests with it."""
        return self.folder / "ca.key"

    @property
    def service_account_key(self) -> Path:
        """Signs and verifies service-account tokens."""
        return self.folder / "service-account.key"

    def create(self) -> None:
        """Make the authority and the token key, unless they exist."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.service_account_key.exists():
            # Not genpkey: the API server reads no PKCS #8 as a verification key.
            curve = ["-name", "prime256v1", "-genkey", "-noout"]
            run(["openssl", "ecparam", *curve, "-out", self.service_account_key])
        if not self.certificate.exists():
            command = ["openssl", "req", "-x509", "-new", *_CURVE, "-days", _DAYS]
            names = ["-subj", "/CN=finetune-local-cluster"]
            run([*command, *names, "-keyout", self.key, "-out", self.certificate])

    def issue(
        self, name: str, *, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()
    ) -> Pair:
        """A certificate for a user (and groups) that also serves the given names and addresses.

        Kubernetes reads the user from the common name and the groups from the organisations. An
        existing pair of that name is returned as it is.
        """
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        if pair.certificate.exists():
            return pair
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        extensions.write_text(_extensions(hosts))
        new = ["openssl", "req", "-new", *_CURVE, "-subj", subject]
        run([*new, "-keyout", pair.key, "-out", request])
        sign: list[Argument] = ["openssl", "x509", "-req", "-in", request, "-days", _DAYS]
        sign += ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"]
        run([*sign, "-extfile", extensions, "-out", pair.certificate])
        request.unlink()
        extensions.unlink()
        return pair

    def kubeconfig(self, path: Path, *, server: str, pair: Pair) -> Path:
        """Write a kubeconfig with everything embedded, so that it can be moved and mounted."""
        user = {
            "client-certificate-data": _base64(pair.certificate),
            "client-key-data": _base64(pair.key),
        }
        return write_kubeconfig(path, server=server, authority=self.certificate, user=user)


def write_kubeconfig(path: Path, *, server: str, authority: Path, user: dict[str, str]) -> Path:
    """A kubeconfig (JSON is YAML) for one server and one user, readable by its owner alone."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "local",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _base64(authority),
                },
            }
        ],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
        "current-context": "local",
    }
    write(path, json.dumps(content, indent=1), mode=0o600)
    return path


def _extensions(hosts: Sequence[str]) -> str:
    """The X.509 extensions of a leaf certificate, as openssl reads them."""
    lines = ["basicConstraints=CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"]
    if hosts:
        lines.append("subjectAltName=" + ",".join(_alternative_name(host) for host in hosts))
    return "\n".join(lines) + "\n"


def _alternative_name(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return f"DNS:{host}"
    return f"IP:{host}"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
