#!/usr/bin/env bash
# A folder that runs on any Linux x86-64 with glibc 2.36 or newer, as an archive: the program, stripped, the shared
# libraries that it links beside glibc's own, the examples and the device profiles: tools/pack.sh PROGRAM ARCHIVE.tar.gz [MORE_PROGRAMS…]
set -euo pipefail
program=$1 archive=$2
shift 2
name=$(basename "$archive" .tar.gz)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
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
tar -C "$folder" -czf "$archive.partial" "$name"
mv "$archive.partial" "$archive"
size=$(stat -c %s "$archive")
echo "$archive: $((size >> 20)) MiB"
[ "$size" -le $((48 << 20)) ] || { echo "pack: the archive is larger than 48 MiB" >&2; exit 1; }
