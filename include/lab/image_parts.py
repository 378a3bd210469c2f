"""What the lab's images are made of, and what is left out of them."""

from __future__ import annotations

SUITE = "bookworm"
PACKAGES = (
    "base-files",
    "ca-certificates",
    "coreutils",
    "dash",
    "libc-bin",
    "libgomp1",
    "libstdc++6",
    "python3",
    "tini",
)
# The library of Python as well as the wheels are compiled ahead: containers run read-only and could never keep a .pyc.
COMPILE = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
# What says which packages are in it: the variant has no dpkg, and scanners read `status.d` where there is none.
STATUS = (
    'mkdir -p "$1/var/lib/dpkg/status.d" && for deb in "$1"/var/cache/apt/archives/*.deb; do '
    'dpkg-deb -f "$deb" Package Source Version Architecture Maintainer '
    '> "$1/var/lib/dpkg/status.d/$(dpkg-deb -f "$deb" Package)" || exit 1; done'
)
# Languages and manuals that nobody reads on a device: a quarter of the base. Licences stay.
SLIM = (
    'find "$1/usr/share/doc" -type f ! -name copyright -delete && '
    'rm -rf "$1"/usr/share/locale "$1"/usr/share/man "$1"/usr/share/info'
)
# The module of onnxruntime holds the library once more; its tools and numpy's compilers run nothing on a device.
UNUSED = (
    "onnxruntime/capi/libonnxruntime.so.*",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "numpy/distutils",
    "numpy/f2py",
)
UNSTABLE = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json")
