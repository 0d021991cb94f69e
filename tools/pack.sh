#!/usr/bin/env bash
# A folder that runs on any Linux x86-64 with the builder's glibc or newer, as an archive: the program, stripped, the shared
# libraries that it links beside glibc's own, the examples and the device profiles:
# tools/pack.sh PROGRAM ARCHIVE.tar.gz [MORE_PROGRAMS…]. Refused are more than FLAGSCALE_PACK_MIB (48) MiB and a newer glibc
# than FLAGSCALE_PACK_GLIBC (2.36).
set -euo pipefail
program=$1 archive=$2
shift 2
name=$(basename "$archive" .tar.gz)
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$archive.partial"' EXIT
die() { echo "pack: $*" >&2; exit 1; }
mkdir -p "$folder/$name/bin" "$folder/$name/lib" "$folder/$name/share/flagscale"
root=$(dirname "$(readlink -f "$0")")/..
cp -r "$root/examples" "$root/devices" "$folder/$name/share/flagscale"
for file in "$program" "$@"; do
  strip -o "$folder/$name/bin/$(basename "$file")" "$file"
  ldd "$file" | awk '$3 ~ /^\// { print $3 }' |
    grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux-x86-64)\.so' | xargs -r cp -L -t "$folder/$name/lib"
done
# Not linked but loaded when a run is recorded.
cp -L "$("${CXX:-c++}" -print-file-name=libsqlite3.so.0)" "$folder/$name/lib"
glibc=$(objdump -T "$folder/$name"/bin/* "$folder/$name"/lib/* | sed -n 's/.*(\?GLIBC_\([0-9.]*[0-9]\).*/\1/p' | sort -uV | tail -1)
oldest=${FLAGSCALE_PACK_GLIBC:-2.36}
printf '%s\n%s\n' "$glibc" "$oldest" | sort --check=quiet --version-sort ||
  die "the archive needs glibc $glibc: build it on a system that has $oldest, or set FLAGSCALE_PACK_GLIBC=$glibc for one that runs on systems like this"
tar -C "$folder" -czf "$archive.partial" "$name"
size=$(stat -c %s "$archive.partial") most=${FLAGSCALE_PACK_MIB:-48}
[ "$size" -le $((most << 20)) ] || die "the archive has $(((size >> 20) + 1)) MiB, more than $most"
mv "$archive.partial" "$archive"
echo "$archive: $((size >> 20)) MiB, for glibc $glibc and newer"
