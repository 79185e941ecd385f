"""One node: containerd, kubelet and kube-proxy in a network namespace, with their configuration.

All nodes share the machine's mounts, so a volume's folder has the same path on each of them.
"""

from __future__ import annotations

import json
from pathlib import Path

from dev.cluster import binaries, busybox, cgroups, components, host
from dev.cluster.pki import Authority
from dev.cluster.processes import Processes
from dev.cluster.settings import CLUSTER_DOMAIN, Node, Settings
from dev.cluster.shell import run, wait_until, write

_CONTAINERD_NAMESPACE = "k8s.io"


def programs(node: Node) -> tuple[str, str, str]:
    """Names of the node's programs, in the order of their start."""
    return f"containerd-{node.name}", f"kube-proxy-{node.name}", f"kubelet-{node.name}"


def start(settings: Settings, node: Node, processes: Processes) -> None:
    """Start the node's programs unless they run; the kubelet then registers the node."""
    _write_files(settings, node)
    containerd, proxy, kubelet = programs(node)
    netns = node.netns_path
    command = ["containerd", "--config", str(node.folder / "containerd.toml")]
    processes.start(containerd, command, netns=netns)
    _wait_for_containerd(node, processes, containerd)
    _load_busybox(settings, node)
    proxy_config = node.folder / "kube-proxy.json"
    processes.start(proxy, [binaries.path("kube-proxy"), f"--config={proxy_config}"], netns=netns)
    processes.start(kubelet, _kubelet_command(node), netns=netns)


def ctr(node: Node, *arguments: str) -> str:
    """Containerd's own client, on this node's images and containers."""
    address = ["--address", str(node.socket), "--namespace", _CONTAINERD_NAMESPACE]
    return run(["ctr", *address, *arguments]).stdout


def _wait_for_containerd(node: Node, processes: Processes, name: str) -> None:
    def ready() -> bool:
        processes.check(name)
        address = ["ctr", "--address", str(node.socket), "--connect-timeout", "1s", "version"]
        return node.socket.exists() and run(address, check=False).returncode == 0

    wait_until(ready, what=f"containerd of {node.name}", seconds=60)


def _load_busybox(settings: Settings, node: Node) -> None:
    if busybox.IMAGE in ctr(node, "images", "ls", "--quiet").split():
        return
    archive = settings.data / "busybox.tar"
    if not archive.exists():
        busybox.write_archive(archive)
    ctr(node, "images", "import", str(archive))


def _kubelet_command(node: Node) -> list[str]:
    return [
        str(binaries.path("kubelet")),
        f"--config={node.folder / 'kubelet.json'}",
        f"--kubeconfig={node.folder / 'kubelet.kubeconfig'}",
        f"--root-dir={node.kubelet_root}",
        f"--cert-dir={node.folder / 'pki'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]


def _write_files(settings: Settings, node: Node) -> None:
    """Everything the three programs read; the same settings write the same bytes."""
    for folder in (node.folder, node.runtime, node.kubelet_root, node.folder / "cni"):
        folder.mkdir(parents=True, exist_ok=True)
    write(node.folder / "containerd.toml", containerd_config(settings, node))
    write(node.folder / "resolv.conf", f"nameserver {settings.gateway}\n")
    _write_json(node.folder / "cni" / "10-pods.conflist", cni_config(settings, node))
    _write_json(node.folder / "kubelet.json", kubelet_config(settings, node))
    _write_json(node.folder / "kube-proxy.json", proxy_config(settings, node))
    mirror = node.folder / "certs.d" / settings.registry
    write(
        mirror / "hosts.toml",
        f'server = "http://{settings.registry}"\n[host."http://{settings.registry}"]\n'
        '  capabilities = ["pull", "resolve"]\n',
    )
    _write_credentials(settings, node)


def _write_credentials(settings: Settings, node: Node) -> None:
    layout = settings.control_plane
    authority = layout.authority
    name = f"system:node:{node.name}"
    kubelet = Authority(authority.folder).issue(
        f"kubelet-{node.name}", user=name, groups=["system:nodes"], hosts=[node.name, node.address]
    )
    config = node.folder / "kubelet.kubeconfig"
    authority.kubeconfig(config, server=layout.server, pair=kubelet)
    components.role(layout, "kube-proxy", user="system:kube-proxy")


def containerd_config(settings: Settings, node: Node) -> str:
    """Containerd's TOML, format 2: read by 1.6 and converted by later ones."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    # A machine that is a container itself can load no AppArmor profile and lower no oom score.
    return f"""\
version = 2
root = "{node.folder / "containerd"}"
state = "{node.runtime / "state"}"
[grpc]
  address = "{node.socket}"
[{cri}]
  sandbox_image = "{busybox.IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [{cri}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [{cri}.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "{host.cni_folder()}"
    conf_dir = "{node.folder / "cni"}"
  [{cri}.registry]
    config_path = "{node.folder / "certs.d"}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{node.folder / "opt"}"
"""


def cni_config(settings: Settings, node: Node) -> dict[str, object]:
    """Routed pods: every packet passes the namespace's iptables, replies to Services included."""
    address_management = {
        "type": "host-local",
        "dataDir": str(node.runtime / "addresses"),
        "ranges": [[{"subnet": node.pod_subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": address_management},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "0.4.0", "name": settings.key, "plugins": plugins}


def kubelet_config(settings: Settings, node: Node) -> dict[str, object]:
    """The kubelet's settings: never evict or collect images because the machine is small."""
    pki = settings.control_plane.authority
    name = f"kubelet-{node.name}"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki.folder / f"{name}.crt"),
        "tlsPrivateKeyFile": str(pki.folder / f"{name}.key"),
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [settings.gateway],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(node.folder / "resolv.conf"),
        "podLogsDir": str(node.folder / "pod-logs"),
        "volumePluginDir": str(node.folder / "volume-plugins"),
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 100,
    }


def proxy_config(settings: Settings, node: Node) -> dict[str, object]:
    """kube-proxy with iptables, touching no connection-tracking limit of the machine."""
    kubeconfig = settings.control_plane.kubeconfig("kube-proxy")
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": settings.pod_network,
        "hostnameOverride": node.name,
        "nodePortAddresses": ["primary"],
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def node_cgroups(settings: Settings) -> None:
    """The cgroups that kubelets expect to find."""
    cgroups.create(settings.key, [node.name for node in settings.nodes])


def _write_json(path: Path, content: dict[str, object]) -> None:
    write(path, json.dumps(content, indent=1))
