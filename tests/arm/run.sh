#!/bin/sh
# The edge package on arm64, emulated: tests/arm/run.sh WHEEL. `make test-arm` calls it.
# Debian for arm64 is laid out once in ~/.cache/tidegate/arm64-bookworm (some ten minutes, 700 MB) and kept. Needs
# debootstrap, qemu-user-static and proot (apt-get install debootstrap qemu-user-static proot), and root for debootstrap.
set -eu
wheel=$(readlink -f "$1")
root=$(readlink -f "$(dirname "$0")/../..")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate
system=$cache/arm64-bookworm

for tool in debootstrap qemu-aarch64-static proot; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install debootstrap qemu-user-static proot" >&2; exit 1; }
done

inside() {
  PROOT_NO_SECCOMP=1 proot -q qemu-aarch64-static -0 -r "$system" -b /dev -b /proc -b /sys -b /etc/resolv.conf \
    -b "$root:/src" -b "$(dirname "$wheel"):/dist" -w /src /usr/bin/env -i \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive DEBOOTSTRAP_DIR=/debootstrap \
    PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CERT=/opt/certificates.pem "$@"
}

if [ ! -e "$system/.complete" ]; then
  echo "Laying out Debian for arm64 in $system: once, some ten minutes"
  mkdir -p "$cache"
  [ -d "$system" ] || debootstrap --arch=arm64 --foreign --variant=minbase \
    --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$system"
  # The first stage leaves a link here that leads out of the folder.
  [ ! -L "$system/proc" ] || { rm "$system/proc" && mkdir "$system/proc"; }
  [ ! -d "$system/debootstrap" ] || inside /debootstrap/debootstrap --second-stage
  touch "$system/.complete"
fi

# A copy: what is bound here is written to by whatever is installed inside.
cp /etc/ssl/certs/ca-certificates.crt "$system/opt/certificates.pem"
[ -x "$system/opt/tidegate/bin/python" ] || inside python3 -m venv /opt/tidegate
pip="inside /opt/tidegate/bin/python -m pip install --quiet --constraint constraints/full.txt"
$pip "/dist/$(basename "$wheel")[edge]" pytest pytest-asyncio pytest-timeout hypothesis
$pip --force-reinstall --no-deps "/dist/$(basename "$wheel")"  # the same version may have other contents
inside uname -m
inside /opt/tidegate/bin/tidegate agent --help >/dev/null
# The installed package, not the sources; tests that need a broker or another end stay out.
inside /opt/tidegate/bin/python -m pytest --quiet --noconftest -p no:cacheprovider \
  tests/edge/test_config.py tests/edge/test_intake.py tests/edge/test_modbus.py tests/edge/test_serial.py \
  tests/edge/test_spool.py tests/edge/test_windowing.py
