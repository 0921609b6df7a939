"""What can be said of examples/containers without a container engine or a cluster: one line a check, `ok` or `FAILED`."""

import glob
import json
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

HERE = Path("examples/containers")
VENV = Path(sys.executable).parent


def load(name):
    return list(yaml.safe_load_all((HERE / name).read_text()))


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)?", str(text)).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, None: 1}[unit]


def check(name, good, why=""):
    print(f"ok static: {name}" if good else f"FAILED static: {name}: {why}")


def default_of(value):
    """What `${NAME-default}` is when nothing is set."""
    found = re.fullmatch(r"\$\{\w+:?-(.*)\}", str(value))
    return found.group(1) if found else str(value)


config = load("config.yaml")[0]
port = int(default_of(config["hub"]["port"]))
metrics_port = int(default_of(config["metrics"]["port"]))
probes = config.get("healthCheck", {})
health, ready = probes.get("path", "/health"), probes.get("readinessPath", "/ready")
drain = (config["hub"]["preStopDelay"] + config["hub"]["shutdownTimeout"]) / 1000
needed = set(re.findall(r"\$\{(\w+)\}", (HERE / "config.yaml").read_text()))
secrets = {"PROACTIONS_SESSION_SECRET", "PROACTIONS_REDIS_URL", "OPENAI_API_KEY"}
check("config: only secrets and EDAPI_URL have to be given", needed == secrets | {"EDAPI_URL"}, needed)


def gives_secrets(environment):
    """Every secret comes as a file, and none as a value."""
    given = set(environment)
    return {f"{name}_FILE" for name in secrets} <= given and not secrets & given


# ------------------------------------------------------------------------------------------------ Containerfile

lint = subprocess.run(
    [VENV / "hadolint", "--failure-threshold", "info", HERE / "Containerfile"], capture_output=True, text=True
)
check("Containerfile: hadolint", lint.returncode == 0, lint.stdout + lint.stderr)

text = re.sub(r"\\\n\s*", " ", (HERE / "Containerfile").read_text())
steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
last = max(i for i, step in enumerate(steps) if step[0] == "FROM")
build, final = steps[:last], steps[last:]
only = {
    name: [rest for step, rest in final if step == name]
    for name in ("USER", "COPY", "ADD", "RUN", "ENV", "HEALTHCHECK")
}
check(
    "Containerfile: two stages, the last one distroless",
    len([s for s in steps if s[0] == "FROM"]) == 2 and "distroless/cc-debian12" in final[0][1],
)
check(
    "Containerfile: the build keeps to the lock file",
    any(s == "RUN" and "--locked" in r and "--release" in r for s, r in build),
)
check("Containerfile: user 1001", only["USER"] == ["1001:1001"], only["USER"])
check(
    "Containerfile: the image holds the program and nothing else",
    len(only["COPY"]) == 1 and "--from=build" in only["COPY"][0] and not only["ADD"] and not only["RUN"],
)
check(
    "Containerfile: the program asks itself",
    [re.sub(r".* CMD ", "", h) for h in only["HEALTHCHECK"]] == ['["/usr/local/bin/proactions-hub", "healthcheck"]'],
)
check("Containerfile: no secret", not re.search(r"(ARG|ENV)\s+\w*(KEY|SECRET|TOKEN|PASS|_URL)", text))
ignored = (HERE / "Containerfile.dockerignore").read_text().splitlines()
ignored = [line for line in ignored if line and not line.startswith("#")]
copied = {part for s, r in build if s == "COPY" for part in r.split()[:-1]}
check(
    "Containerfile: the context is what it copies",
    ignored[0] == "*" and {line[1:] for line in ignored if line[0] == "!"} == copied,
    copied,
)
check("Containerfile: EXPOSE fits the configuration", ["EXPOSE", str(port)] in final)

# What the program is linked with must be in the image: distroless/cc holds glibc and libgcc.
linked = subprocess.run(["ldd", sys.argv[1]], capture_output=True, text=True).stdout
libraries = set(re.findall(r"^\s+(\S+?)\.so", linked, re.M)) - {
    "linux-vdso",
    "/lib64/ld-linux-x86-64",
    "/lib/ld-linux-aarch64",
}
check(
    "Containerfile: the image has every library",
    libraries <= {"libc", "libm", "libgcc_s"} and "libc" in libraries,
    linked,
)

# ------------------------------------------------------------------------------------------------------ compose

compose = load("compose.yaml")[0]
services, networks = compose["services"], compose["networks"]
for name, service in services.items():
    check(
        f"compose {name}: read-only, no capability, no new privilege",
        service.get("read_only") is True
        and service.get("cap_drop") == ["ALL"]
        and "no-new-privileges:true" in service.get("security_opt", [])
        and "privileged" not in service
        and "cap_add" not in service,
    )
    user = str(service.get("user", "0")).split(":")[0]
    check(f"compose {name}: not root", user.isdigit() and user != "0", user)
    check(
        f"compose {name}: bounded",
        "pids_limit" in service and all("noexec" in t and "size=" in t for t in service.get("tmpfs", [])),
    )
    check(
        f"compose {name}: every mount is read-only",
        all(v.endswith(":ro") for v in service.get("volumes", [])),
        service.get("volumes"),
    )
    known = all(s in compose["secrets"] for s in service.get("secrets", []))
    check(f"compose {name}: its secrets are declared", known, service.get("secrets"))
    missing = [v for v in service.get("volumes", []) if not (HERE / v.split(":")[0]).exists()]
    check(f"compose {name}: what it mounts is here", not missing, missing)
hub = services["hub"]
check("compose: user 1001", hub["user"] == "1001:1001")
check(
    "compose: the backend has no way out",
    networks["backend"].get("internal") is True and not networks["frontend"].get("internal"),
)
check("compose: Redis is on the backend alone", services["redis"]["networks"] == ["backend"])
check("compose: the hub is on both networks", set(hub["networks"]) == {"frontend", "backend"})
check("compose: only the proxy is published", [n for n, s in services.items() if "ports" in s] == ["proxy"])
check("compose: the proxy is not on the backend", set(services["proxy"]["networks"]) == {"frontend"})
check(
    "compose: the hub trusts the proxy's address alone",
    hub["environment"]["TRUSTED_PROXIES"] == services["proxy"]["networks"]["frontend"]["ipv4_address"],
)
check("compose: secrets are files", gives_secrets(hub["environment"]), hub["environment"])
paths = {f"/run/secrets/{name}" for name in hub["secrets"]}
check(
    "compose: the files are those of the secrets",
    {v for k, v in hub["environment"].items() if k.endswith("_FILE")} == paths,
)
check("compose: everything needed is given", needed <= {k.removesuffix("_FILE") for k in hub["environment"]})
check("compose: the grace period is longer than the drain", seconds(hub["stop_grace_period"]) > drain)
check(
    "compose: the program asks itself",
    hub["healthcheck"]["test"] == ["CMD", "/usr/local/bin/proactions-hub", "healthcheck"],
)
check(
    "compose: the port is the configured one",
    hub["expose"] == [str(port)] and f"server hub:{port};" in (HERE / "nginx/container.conf").read_text(),
)

# -------------------------------------------------------------------------------------------------------- Redis

# Some commands are sent seldom; all that the sources name must be allowed.
sources = [Path(f"crates/{crate}/src/redis.rs").read_text() for crate in ("session-store", "ratelimit")]
sent = {c.lower() for s in sources for c in re.findall(r"""(?:redis\.call\('|redis::cmd\(")([A-Z]+)""", s)}
(user,) = [
    line.split()
    for line in (HERE / "redis/users.acl.template").read_text().splitlines()
    if line.startswith("user hub ")
]
allowed = {rule[1:] for rule in user if rule.startswith("+")}
check("redis: the hub may send what it sends", len(sent) > 5 and sent <= allowed, sent - allowed)
(default,) = [
    line.split()
    for line in (HERE / "redis/users.acl.template").read_text().splitlines()
    if line.startswith("user default ")
]
check("redis: without a user nothing is allowed", {"off", "-@all", "resetkeys", "resetpass"} <= set(default))

# ------------------------------------------------------------------------------------- podman: quadlet, systemd


def unit(name):
    """The sections of a unit; a key that comes again adds a value."""
    sections, current = {}, None
    for line in (HERE / name).read_text().splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif line and line[0] not in "#;":
            key, value = line.split("=", 1)
            current.setdefault(key, []).append(value)
    return sections


for name in ("proactions-hub", "proactions-redis"):
    c = unit(f"quadlet/{name}.container")["Container"]
    check(
        f"quadlet {name}: read-only, no capability, no new privilege, not root",
        c["ReadOnly"] == ["true"]
        and c["NoNewPrivileges"] == ["true"]
        and c["DropCapability"] == ["all"]
        and c["User"] != ["0"],
    )
    check(
        f"quadlet {name}: its volumes are read-only and labelled", all(v.endswith(":ro,Z") for v in c.get("Volume", []))
    )
    known = {Path(p).name for p in glob.glob(str(HERE / "quadlet/*.network"))}
    check(f"quadlet {name}: its networks are here", set(c["Network"]) <= known, c["Network"])
    check(
        f"quadlet {name}: its secrets are its own",
        all(f"uid={c['User'][0]}," in s and "mode=0400" in s for s in c["Secret"]),
    )
c = unit("quadlet/proactions-hub.container")
environment = dict(e.split("=", 1) for e in c["Container"]["Environment"])
targets = {"/run/secrets/" + re.search(r"target=(\w+)", s).group(1) for s in c["Container"]["Secret"]}
check(
    "quadlet: secrets are files",
    gives_secrets(environment) and {v for k, v in environment.items() if k.endswith("_FILE")} == targets,
)
check("quadlet: user 1001", c["Container"]["User"] == ["1001"])
check("quadlet: published for this machine alone", c["Container"]["PublishPort"] == [f"127.0.0.1:{port}:{port}"])
check(
    "quadlet: the program asks itself",
    json.loads(c["Container"]["HealthCmd"][0]) == ["/usr/local/bin/proactions-hub", "healthcheck"],
)
stop = [int(m) for a in c["Container"]["PodmanArgs"] for m in re.findall(r"--stop-timeout=(\d+)", a)]
check(
    "quadlet: the grace period is longer than the drain",
    stop and drain < stop[0] < seconds(c["Service"]["TimeoutStopSec"][0]),
)
front, back = (
    unit("quadlet/proactions-frontend.network")["Network"],
    unit("quadlet/proactions-backend.network")["Network"],
)
check("quadlet: the backend has no way out", back["Internal"] == ["true"] and "Internal" not in front)
check("quadlet: the hub trusts the gateway alone", environment["TRUSTED_PROXIES"] == front["Gateway"][0])
check(
    "quadlet: Redis is on the backend alone",
    unit("quadlet/proactions-redis.container")["Container"]["Network"] == ["proactions-backend.network"],
)
same = [str(a) for a in services["redis"]["command"]]
check("redis: it throws no session away", same[same.index("--maxmemory-policy") + 1] == "noeviction")
exec_line = unit("quadlet/proactions-redis.container")["Container"]["Exec"][0]
check(
    "quadlet: Redis is started as compose starts it",
    exec_line.replace('""', "").split() == [a for a in same if a],
    exec_line,
)

service = unit("systemd/proactions-hub.service")["Service"]
environment = dict(e.split("=", 1) for e in service["Environment"])
given = {line.split(":")[0] for line in service["LoadCredential"]}
check(
    "systemd: secrets are credentials",
    gives_secrets(environment)
    and {v.removeprefix("%d/") for k, v in environment.items() if k.endswith("_FILE")} == given,
)
check("systemd: the grace period is longer than the drain", seconds(service["TimeoutStopSec"][0]) > drain)
check("systemd: a configuration that cannot be used is not tried again", service["RestartPreventExitStatus"] == ["2"])

# --------------------------------------------------------------------------------------------------- Kubernetes

objects = {}
for path in sorted(HERE.glob("kubernetes/*.yaml")):
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "Kustomization":
            listed = {p.name for p in HERE.glob("kubernetes/*.yaml")} - {"kustomization.yaml", "secret.yaml"}
            check("kubernetes: kustomization lists every file but the Secret", set(document["resources"]) == listed)
            continue
        name = f"{document['kind']}/{document['metadata']['name']}"
        objects[name] = document
        for version in ("1.29", "1.37"):
            try:
                kubernetes_validate.validate(document, version, strict=True)
                problem = None
            except Exception as error:  # Whatever it is, the manifest did not pass.
                problem = str(error).splitlines()[0]
            check(f"kubernetes {name}: fits the schema of {version}", problem is None, problem)
        namespace = document["metadata"].get("namespace", "proactions")
        check(f"kubernetes {name}: in the namespace", namespace == "proactions")

check("kubernetes: the Secret is empty", set(objects["Secret/proactions-hub"]["stringData"].values()) == {""})
inside = yaml.safe_load(objects["ConfigMap/proactions-hub"]["data"]["config.yaml"])
check("kubernetes: the ConfigMap holds config.yaml", inside == config)
spec = objects["Deployment/proactions-hub"]["spec"]
pod = spec["template"]["spec"]
(container,) = pod["containers"]
who = pod["securityContext"]
check(
    "kubernetes: user 1001, not root, seccomp",
    who["runAsNonRoot"] is True and who["runAsUser"] == 1001 and who["seccompProfile"] == {"type": "RuntimeDefault"},
)
what = container["securityContext"]
check(
    "kubernetes: the profile «restricted»",
    what["allowPrivilegeEscalation"] is False
    and what["capabilities"] == {"drop": ["ALL"]}
    and "privileged" not in what
    and objects["Namespace/proactions"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted",
)
check("kubernetes: read-only", what["readOnlyRootFilesystem"] is True)
check("kubernetes: no token of the cluster", pod["automountServiceAccountToken"] is False)
ports = {p["name"]: p["containerPort"] for p in container["ports"]}
check("kubernetes: ports of the configuration", ports == {"http": port, "metrics": metrics_port}, ports)
wanted = {"startupProbe": health, "livenessProbe": health, "readinessProbe": ready}
check(
    "kubernetes: probes of the configuration",
    all(container[k]["httpGet"] == {"path": p, "port": "http"} for k, p in wanted.items()),
)
check(
    "kubernetes: the grace period is longer than the drain",
    pod["terminationGracePeriodSeconds"] > drain and "lifecycle" not in container,
)
probe = container["readinessProbe"]
noticed = probe["periodSeconds"] * probe["failureThreshold"]
check("kubernetes: not being ready is noticed within preStopDelay", noticed * 1000 <= config["hub"]["preStopDelay"])
environment = {e["name"]: e["value"] for e in container["env"]}
mounts = {m["name"]: m for m in container["volumeMounts"]}
check(
    "kubernetes: secrets are files",
    gives_secrets(environment)
    and all(
        v.startswith(mounts["secrets"]["mountPath"] + "/")
        and Path(v).name in objects["Secret/proactions-hub"]["stringData"]
        for k, v in environment.items()
        if k.endswith("_FILE")
    ),
)
given = set(environment) | set(objects["ConfigMap/proactions-hub-environment"]["data"])
check("kubernetes: everything needed is given", needed <= {name.removesuffix("_FILE") for name in given})
check(
    "kubernetes: the configuration is where it is looked for",
    environment["PROACTIONS_HUB_CONFIG"] == mounts["config"]["mountPath"] + "/config.yaml",
)
labels = spec["template"]["metadata"]["labels"]
selectors = [
    spec["selector"]["matchLabels"],
    objects["Service/proactions-hub"]["spec"]["selector"],
    objects["PodDisruptionBudget/proactions-hub"]["spec"]["selector"]["matchLabels"],
    objects["NetworkPolicy/proactions-hub"]["spec"]["podSelector"]["matchLabels"],
]
check("kubernetes: all of them mean the same pods", all(s.items() <= labels.items() and s for s in selectors))
check(
    "kubernetes: the service leads to the public port alone",
    [p["targetPort"] for p in objects["Service/proactions-hub"]["spec"]["ports"]] == ["http"],
)
deny = objects["NetworkPolicy/default-deny"]["spec"]
check("kubernetes: everything else is denied", deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
rules = objects["NetworkPolicy/proactions-hub"]["spec"]
check(
    "kubernetes: every way in has a sender and a known port",
    all(r.get("from") and {p["port"] for p in r["ports"]} <= set(ports.values()) for r in rules["ingress"]),
)
redis = objects.get("NetworkPolicy/redis", {}).get("spec")
ways = [r["ports"] for r in rules["egress"] if redis and r["to"] == [{"podSelector": redis["podSelector"]}]]
check(
    "kubernetes: Redis lets in the hub, and nobody else",
    ways != []
    and redis["ingress"]
    == [{"from": [{"podSelector": objects["NetworkPolicy/proactions-hub"]["spec"]["podSelector"]}], "ports": ways[0]}]
    and redis["policyTypes"] == ["Ingress"],
)
check(
    "kubernetes: the cloud's metadata service is out of reach",
    all(
        "169.254.0.0/16" in to["ipBlock"]["except"]
        for r in rules["egress"]
        for to in r["to"]
        if to.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ),
)
check(
    "kubernetes: a disruption leaves a pod",
    spec["replicas"] > objects["PodDisruptionBudget/proactions-hub"]["spec"]["minAvailable"],
)
