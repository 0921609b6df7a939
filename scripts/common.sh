# Sourced by the scripts beside it, in the root of the project: what they install, start, wait for and count.

passed=0 failed=0
pids=()

# stop: ends what the script started, each by its id.
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT

# need COMMAND PACKAGE: the command is there, or is installed when that is possible.
need() {
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    local install=(apt-get install -y -q --no-install-recommends "$2")
    # Only the programs are wanted; a service that the package would start could take a port.
    { RUNLEVEL=1 "${install[@]}" >/dev/null 2>&1 || { apt-get update -q && RUNLEVEL=1 "${install[@]}"; }; } >&2
  fi
  command -v "$1" >/dev/null || { echo "$0 needs $1 (package $2)" >&2; exit 2; }
}

# programs: builds every program of the workspace, all with the same features, so that scripts one after the other build
# once. Sets $bin to their folder and HUB_BIN to the hub, unless that names one already.
programs() {
  cargo build --quiet --workspace --all-features --bins
  bin=${CARGO_TARGET_DIR:-target}/debug
  HUB_BIN=${HUB_BIN:-$bin/proactions-hub}
}

# wait_for FILE PATTERN PID: until a line of the file matches; not longer than 20 s or than the process lives.
wait_for() {
  for _ in $(seq 400); do
    grep -q -- "$2" "$1" 2>/dev/null && return
    kill -0 "$3" 2>/dev/null || break
    sleep 0.05
  done
  echo "no line with '$2' in $1:" >&2
  tail -40 "$1" >&2
  return 1
}

# until_answers PID COMMAND...: until the command succeeds; not longer than 20 s or than the process lives.
until_answers() {
  local pid=$1
  shift
  for _ in $(seq 400); do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  "$@"
}

# python_with FOLDER REQUIREMENTS: a virtual environment in FOLDER with what the file lists.
python_with() {
  cmp -s "$2" "$1/installed.txt" && return
  rm -rf "$1"
  if ! python3 -m venv "$1" 2>/dev/null; then
    [ "$(id -u)" = 0 ] && apt-get install -y -q python3-venv >&2
    rm -rf "$1"
    python3 -m venv "$1"
  fi
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
  cp "$2" "$1/installed.txt"
}

# check NAME COMMAND...: one check, counted.
check() {
  local name=$1 reason
  shift
  if reason=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok $name"
  else
    failed=$((failed + 1))
    echo "FAILED $name: ${reason:0:600}"
  fi
}

fail() {
  echo "$*"
  return 1
}

# count FILE: adds up the lines `ok …` and `FAILED …` of a client.
count() {
  passed=$((passed + $(grep -c '^ok ' "$1" || true)))
  failed=$((failed + $(grep -c '^FAILED ' "$1" || true)))
}

secret() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# header NAME FILE: the value of a field in a head that curl has dumped.
header() { sed -n "s/^$1: *//Ip" "$2" | tr -d '\r'; }

# verdict: the closing line, and the exit code.
verdict() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}
