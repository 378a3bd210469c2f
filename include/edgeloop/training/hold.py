"""Holding the end of a job until Docker has read its last lines.

Docker loses what a container said while its engine was away, if the container also ended meanwhile (20.10: the pipe in
which the lines wait goes with the container; of a container that lives on, no line is lost). So the script runs under a
shell that outlives it, and waits on a pipe in the job's folder until somebody on the VM has seen the engine after the
script's end: the guard, or whoever follows the job. The pipe is all that the container gets of this, and a script that
opens it itself only loses its own last lines: whoever writes to it never waits.
"""

from __future__ import annotations

import shlex

PIPE = "engine"
"""The pipe's name in the job's folder, and in the root of the container."""
SETTLE_SECONDS = 0.2
"""From being let go until Docker calls the container ended."""
NO_SHELL = 127
HELD = """exec 2>/dev/null
"$@" 2>&1 & job=$! heard=
for one in HUP INT QUIT USR1 USR2 TERM; do trap "heard=x\\$heard; kill -$one $job" $one; done
while before=$heard; wait $job; code=$?; test "$before" != "$heard"; do :; done
trap 'exit $code' HUP INT QUIT TERM
test -n "$heard" || read -r _ <>/engine
exit $code"""
"""Runs a command, passes signals on to it, and ends with its exit code.

Shells tell of a process that was killed, in words of their own: nobody is to hear them. A process that is started while
a signal is trapped may lose one in its first instant, and variables that are set before may be the image's own: so all
of it comes after the start. Until then a signal ends shell and container. A wait that a signal cut short is done again.
Who sends a signal is an engine that answers, and one that shuts down waits for the end: nothing is held then. A command
in the background is deaf to SIGINT, that is POSIX.
"""
_COMMAND = "{{range .Config.Entrypoint}}%s{{end}}{{range .Config.Cmd}}%s{{end}}"
_QUOTED = r"""'{{join (split . "'") "'\\''"}}' """
"""One argument of an image's command, quoted for the shell."""


def launch(here: str, image: str, lockdown: str) -> str:
    """Shell text that sets the positional parameters to the end of a ``docker run``: the image, held where it can be.

    An image without a shell, and a VM whose ``dd`` cannot open a pipe without waiting, go without.

    Args:
        here: The job's folder, relative to the login user's home.
        image: The image's id or reference on the VM.
        lockdown: Options of the container in which the image is asked whether it has a shell.
    """
    image = shlex.quote(image)
    quoted = _COMMAND % (_QUOTED, _QUOTED)
    return f"""pipe={here}/{PIPE} held={NO_SHELL}
rm -f $pipe && mkfifo -m 666 $pipe
if {_open("$pipe")} 3<>$pipe; then
held=0
docker run --rm --pull never {lockdown} --entrypoint /bin/sh {image} -c : >/dev/null || held=$?
fi
command=$(docker image inspect --format {shlex.quote(quoted)} {image})
eval "set -- $command"
case $held.$# in
*.0 | 126.* | {NO_SHELL}.*) set -- {image} ;;
0.*) set -- -v "$HOME"/$pipe:/{PIPE}:ro --entrypoint /bin/sh {image} -c {shlex.quote(HELD)} train "$@" ;;
*) exit $held ;;
esac"""


def waits(here: str) -> str:
    """A shell condition: the script has ended, and its container waits to be let go."""
    return f"test -p {here}/{PIPE} && {_open(f'{here}/{PIPE}')}"


def let_go(here: str) -> str:
    """Let a container that waits end; to be said only by who saw it wait, and the engine after that."""
    return f"echo up | dd of={here}/{PIPE} oflag=nonblock conv=notrunc 2>/dev/null"


def _open(pipe: str) -> str:
    """Open the pipe as its writer, and fail at once if nobody reads it."""
    return f"dd if=/dev/null of={pipe} oflag=nonblock conv=notrunc 2>/dev/null"
