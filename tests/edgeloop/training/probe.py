"""A training that tries every way out. Runs as train.py in the container; the last line of its log is what it found."""

# A hostile script as somebody would write it: plain calls, no types, everything in one file.
# ruff: noqa: ANN001, ANN002, ANN201, PLW0108, PTH101, PTH108, PTH118, PTH123, PTH208, SIM115, T201
import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys

ASKED = json.loads("@ASKED@")
FORKS, TMP_MB, LIMIT_FOLDERS = 600, 300, 4000
PSEUDO = ("/proc", "/sys", "/tmp", "/outputs", "/checkpoint", "/host")
libc = ctypes.CDLL(None, use_errno=True)
found = {}


def attempt(way, action):
    """Note a way as open when the action succeeds (or returns something other than False)."""
    try:
        found[way] = "closed" if action() is False else "open"
    except OSError as error:
        found[way] = f"closed: {errno.errorcode.get(error.errno, type(error).__name__)}"


def call(name, *arguments):
    """A function of the C library; raises OSError."""
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def system(number, *arguments):
    """A system call by its number on x86-64; raises OSError."""
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), str(number))


def dial(host, port):
    """Whether a packet gets as far as to be refused: no route is what closes this way, or nobody on one's own loop."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except (TimeoutError, ConnectionRefusedError):
        if host.startswith("127."):
            raise
    except OSError as error:
        if error.errno != errno.EHOSTUNREACH:
            raise


def ask(host, port):
    """A datagram, answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.sendto(b"name?", (host, port))
        return bool(one.recv(16))


def unix(path):
    """A stream to a socket of this machine."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(1)
        one.connect(path)


def write(path):
    """A new file."""
    with open(path, "w") as sink:
        sink.write("x")
    os.unlink(path)


def writable():
    """Folders that take a file, of all there are."""
    open_ones = []
    for count, (folder, inner, _) in enumerate(os.walk("/")):
        inner[:] = [one for one in inner if os.path.join(folder, one) not in PSEUDO]
        with contextlib.suppress(OSError):
            write(os.path.join(folder, "probe.x"))
            open_ones.append(folder)
        if count > LIMIT_FOLDERS:
            break
    found["writable folders"] = sorted(open_ones)


def run_from(folder):
    """A program that this script brought."""
    path = f"{folder}/probe-true"
    with open("/bin/true", "rb") as source, open(path, "wb") as sink:
        sink.write(source.read())
    os.chmod(path, 0o755)
    try:
        subprocess.run([path], check=False)
    finally:
        os.unlink(path)


def forks():
    """How many processes there may be."""
    children = []
    try:
        while len(children) < FORKS:
            child = os.fork()
            if not child:
                signal.pause()
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found["processes"] = len(children)


def fill():
    """How many MiB /tmp takes."""
    count = 0
    try:
        with open("/tmp/probe-fill", "wb", buffering=0) as sink:
            while count < TMP_MB:
                if sink.write(bytes(1 << 20)) < 1 << 20:
                    break
                count += 1
    except OSError:
        pass
    finally:
        os.unlink("/tmp/probe-fill")
    found["MiB in /tmp"] = count


def others():
    """Whether a process is seen that is neither an ancestor nor a child of this one."""
    mine = {"1", str(os.getpid()), str(os.getppid())}
    return bool([one for one in os.listdir("/proc") if one.isdigit() and one not in mine])


def same(path):
    """A setting of the kernel, written as it is."""
    with open(path) as source:
        value = source.read()
    with open(path, "w") as sink:
        sink.write(value)


def status():
    """What the kernel says this process may do."""
    lines = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    keys = ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid")
    found["status"] = {key: lines[key].split()[0] for key in keys}


def main():
    """Try all of it."""
    host, dns, tcp = ASKED["host"], ASKED["udp"], ASKED["tcp"]
    for name, where in ASKED["dial"].items():
        attempt(f"tcp: {name}", lambda where=where: dial(*where))
    attempt("tcp: a server beyond the gateway", lambda: socket.create_connection((host, tcp), timeout=1).close())
    attempt("udp: a name server", lambda: ask(host, dns))
    attempt("udp: everybody", lambda: broadcast())
    attempt("IPv6: the neighbours", lambda: neighbours())
    attempt("interfaces", lambda: any(name != "lo" for _, name in socket.if_nameindex()))
    attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())
    attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
    attempt("vsock to the hypervisor", lambda: vsock())
    attempt("abstract unix socket", lambda: unix("\0" + ASKED["abstract"]))
    for path in ASKED["sockets"]:
        attempt(f"unix socket {path}", lambda path=path: unix(path))
    attempt("/dev/shm", lambda: write("/dev/shm/probe.x"))
    attempt("run from /tmp", lambda: run_from("/tmp"))
    attempt("setuid", lambda: call("setresuid", 0, 0, 0))
    attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None) or call("umount", b"/tmp"))
    attempt("namespaces", lambda: unshared(0x10000000))
    attempt("network namespace", lambda: unshared(0x40000000))
    attempt("mknod", lambda: os.mknod("/tmp/probe-node", 0o600 | stat.S_IFBLK, os.makedev(7, 0)))
    attempt("processes of others", others)
    attempt("ptrace", lambda: traced(ASKED["victim"]))
    attempt("kill", lambda: os.kill(ASKED["victim"], 0))
    attempt("kernel settings", lambda: same("/proc/sys/net/ipv4/ip_forward"))
    attempt("host name", lambda: call("sethostname", os.uname().nodename.encode(), len(os.uname().nodename)))
    attempt("kernel's log", lambda: open("/dev/kmsg").close())
    attempt("kernel's memory", lambda: bool(open("/proc/kcore", "rb").read(1)))
    attempt("chroot", lambda: chrooted())
    attempt("BPF", lambda: system(321, 0, struct.pack("IIII", 2, 4, 4, 1) + bytes(64), 80))
    attempt("keyring", lambda: system(248, b"user", b"probe", b"x", 1, -3))
    attempt("a second name for a row of data", lambda: os.link("/data/dataset.json", "/outputs/link.json"))
    for path in ("/data", "/code", "/etc", "/usr", "/opt", "/run", "/var/tmp", "/"):
        attempt(f"write to {path}", lambda path=path: write(f"{path}/probe.x"))
    for path in ASKED["files"]:
        attempt(f"read {path}", lambda path=path: open(path, "rb").close())
    writable()
    status()
    forks()
    fill()
    found["environment"] = sorted(os.environ)
    print(json.dumps(found), flush=True)


def broadcast():
    """A datagram to everybody on the network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.sendto(b"x", ("255.255.255.255", 9))


def neighbours():
    """A datagram to every IPv6 host on any interface but the loop."""
    sent = False
    for number, name in socket.if_nameindex():
        if name != "lo":
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
                one.sendto(b"x", ("ff02::1", 9, 0, number))
                sent = True
    return sent


def vsock():
    """A stream to the machine that this one runs on."""
    with socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM) as one:
        one.settimeout(1)
        one.connect((2, 1024))


def unshared(flag):
    """A namespace of one's own, in a child."""
    return not in_child(lambda: call("unshare", flag))


def traced(victim):
    """Another's memory."""
    call("ptrace", 16, victim, None, None)
    os.waitpid(victim, 0x40000000)
    call("ptrace", 17, victim, None, None)


def chrooted():
    """Another root, in a child."""
    return not in_child(lambda: os.chroot("/tmp"))


def in_child(action):
    """Run in a child; what it raises is raised here."""
    child = os.fork()
    if not child:
        try:
            action()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "in a child")
    return code


main()
sys.exit(0)
