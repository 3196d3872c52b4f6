#!/usr/bin/env bash
# Puts together the file system of the image, in the build stage of the
# Dockerfile: the host, the libraries it is linked to, the authorities of TLS, the
# application where its manifest expects it, and the bills of materials.
# Every file gets the time of SOURCE_DATE_EPOCH.
set -euo pipefail

root=${1:?usage: rootfs.sh FOLDER [STATE]}
# Becomes /state, which must be empty.
state=${2:-/var/empty-state}
wasm=target/wasm32-wasip2/release

install -D -m 0755 target/release/gristmill "$root/usr/local/bin/gristmill"
install -D -m 0755 target/release/probe "$root/usr/local/bin/probe"

# The loader and glibc, at the very paths that the programs name. `libnss` and
# `libresolv` are part of glibc since 2.34, so names resolve without more.
ldd target/release/gristmill target/release/probe \
    | grep -oE '/lib[^ ]+' | sort -u \
    | while read -r library; do
        install -D -m 0755 "$(readlink -f "$library")" "$root$library"
    done

# The public authorities, and those of k8s/images/authorities.
install -d "$root/etc/ssl/certs"
shopt -s nullglob
cat /etc/ssl/certs/ca-certificates.crt k8s/images/authorities/*.pem \
    >"$root/etc/ssl/certs/ca-certificates.crt"
echo 'gristmill:x:65532:65532:gristmill:/state:/sbin/nologin' >"$root/etc/passwd"
echo 'gristmill:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

# The application: its manifest, and each file that the manifest names.
install -D -m 0644 spin.toml "$root/app/spin.toml"
sed -nE 's/^source = "(.+)"$/\1/p' spin.toml | sort -u \
    | while read -r source; do
        case $source in
            "$wasm"/*) install -D -m 0644 "$source" "$root/app/$source" ;;
            *)
                echo "rootfs.sh: spin.toml names $source, outside of $wasm" >&2
                exit 1
                ;;
        esac
    done

# cargo-cyclonedx wrote one for each package and each target, beside Cargo.toml.
install -d "$root/usr/share/sbom"
for bill in runtime-shim/*linux*.cdx.json components/*/*wasm32-wasip2*.cdx.json; do
    install -m 0644 -t "$root/usr/share/sbom" "$bill"
done
test -n "$(ls -A "$root/usr/share/sbom")"
install -D -m 0644 LICENSE "$root/usr/share/licenses/gristmill/LICENSE"

install -d "$state"
find "$root" "$state" -exec touch --no-dereference \
    --date="@${SOURCE_DATE_EPOCH:-0}" {} +
