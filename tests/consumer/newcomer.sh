#!/bin/sh
# Plays a newcomer in a bare system: runs the commands of README.md from `apt-get install` to the running program, and then
# those of the first tutorial, as they stand there. Programs are saved under the names that the texts give them:
# the first one of README.md under the name that its command compiles, the others under the name in their first line.
# Prints the transcript, and the time from `apt-get install` to the output of the first program.
# Needs root, a network, and the packages of `install-packages.sh package`. Minutes.
# Usage: newcomer.sh [DIR]   (DIR: build/newcomer)
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$source/build/newcomer}
tutorial=$source/docs/tutorials/embed.md
# shellcheck source=tests/package/tree.sh
. "$source/tests/package/tree.sh"

# commands FILE: its blocks of sh.
commands()
{
	awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside' "$1"
}

# programs FILE DIR: saves each block of C whose first line names a file.
programs()
{
	awk -v dir="$2" '
		/^```c$/ { inside = 1; first = 1; next }
		/^```/ { inside = 0; file = "" }
		inside && first { first = 0; file = ($0 ~ /^\/\* [a-z_]+[.]c: /) ? dir "/" substr($2, 1, length($2) - 1) : "" }
		inside && file != "" { print >file }' "$1"
}

make_tree "$out/tree"
home=$tree/root/ferry
mkdir -p "$home"
(cd "$source" && tar -c --exclude ./build --exclude ./.git .) | tar -x -C "$home"
# apt-get asks before it installs; here is nobody to answer.
echo 'APT::Get::Assume-Yes "true";' >"$tree/etc/apt/apt.conf.d/assume-yes"
in_tree 'apt-get -q -q update'

commands "$source/README.md" | sed -n '/apt-get install/,/^cc /p' >"$tree/root/readme.sh"
program=$(sed -n 's/^cc .*[ ]\([a-z_]*[.]c\) .*/\1/p' "$tree/root/readme.sh" | head -n 1)
if [ -z "$program" ]; then
	echo "$0: README.md has no command that compiles its program" >&2
	exit 1
fi
awk '/^```c$/ { inside = 1; next } /^```/ { if (inside) exit } inside' "$source/README.md" >"$home/$program"
commands "$tutorial" >"$tree/root/tutorial.sh"
programs "$tutorial" "$home"

# transcript FILE: runs the commands in the directory of the sources, as a terminal does: with job control, and each
# line is shown before it runs.
transcript()
{
	in_tree "cd /root/ferry; exec bash -emv /root/$1" 2>&1 | tee "$out/$1.log"
	# The shell is the first in a pipe, and its status is in the file that it writes last.
	grep -q '^newcomer: done$' "$out/$1.log"
}

echo "echo 'newcomer: done'" >>"$tree/root/readme.sh"
echo "echo 'newcomer: done'" >>"$tree/root/tutorial.sh"
began=$(date +%s)
transcript readme.sh
seconds=$(($(date +%s) - began))
# The program of README.md, and its compilation without a word.
grep -q '^written through a received descriptor' "$out/readme.sh.log"
if grep -n 'warning' "$out/readme.sh.log"; then
	echo "$0: a compiler has warned" >&2
	exit 1
fi
began=$(date +%s)
transcript tutorial.sh
echo "newcomer.sh: from apt-get install to the running program in $seconds seconds, the tutorial in" \
	"$(($(date +%s) - began)) more"
