#!/usr/bin/env bash
# The wheel in a fresh environment, without this tree: tests/foreign/wheel.sh PYTHON PROGRAM
set -euo pipefail
python=$1 program=$(readlink -f "$2")
root=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
die() { echo "wheel.sh: $*" >&2; exit 1; }

FLAGSCALE_PACK_GLIBC=99 "$root/tools/pack.sh" "$program" "$scratch/flagscale-x86_64.tar.gz"
FLAGSCALE_ARCHIVE=$scratch/flagscale-x86_64.tar.gz "$python" -m pip wheel -q --no-deps -w "$scratch" "$root"
wheel=$(compgen -G "$scratch/flagscale-*-py3-none-manylinux_2_*_x86_64.whl") || die "no wheel with a manylinux tag: $(ls "$scratch")"
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install -q --no-index "$wheel"

cd "$scratch"
installed=venv/bin/flagscale
[ "$("$installed" --version)" = "$("$program" --version)" ] || die "another version than the program's"
ln -s "$installed" called-by-a-link
[ "$(./called-by-a-link --version)" = "$("$program" --version)" ] || die "does not run by a link"
"$installed" completion --list examples | grep -qx aquila || die "the examples are not there"
strace -f -e trace=execve -o calls "$installed" --version >/dev/null 2>&1 &&
  { ! grep -q python calls || die "starts a Python: $(cat calls)"; }

# FlagScale's own words, from its own folder's place.
cp "$root/run.py" .
cp -r "$root/examples" .
env PATH="$scratch/venv/bin:$PATH" "$scratch/venv/bin/python" run.py --config-path ./examples/smollm2/conf --config-name serve \
  action=dryrun serve.0.engine_args.model=nothing >out 2>&1 || die "run.py: $(cat out)"
grep -q "would serve nothing on" out || die "run.py printed: $(cat out)"
status=0
env PATH="$scratch/venv/bin:$PATH" "$scratch/venv/bin/python" run.py --config-path nowhere --config-name train >out 2>&1 || status=$?
[ $status = 1 ] || [ $status = 2 ] || die "run.py hides the exit code: $status"

"$scratch/venv/bin/python" -m pip uninstall -q -y flagscale
[ ! -e venv/bin/flagscale ] && [ ! -e venv/libexec/flagscale/bin ] || die "pip uninstall leaves files"
echo "$(basename "$wheel"), $(($(stat -c %s "$wheel") >> 20)) MiB: installs, runs, goes"
