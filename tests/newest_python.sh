#!/bin/bash
# Runs a command with Debian's newest Python, in a root folder that debootstrap makes. Needs Debian and root.
#
# Usage: newest_python.sh FOLDER COMMAND...
#
# The folder is made if it does not exist. The project as it is committed goes to /project in it, and COMMAND runs there
# in an environment of its own. /proc and /dev are mounted for that time only.
set -euo pipefail
folder=$1
shift
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
	echo "this needs root and debootstrap (Debian: apt-get install debootstrap)" >&2
	exit 1
fi

make_root() {
	local mirror
	mirror=$(grep -hoE '^(URIs:|deb) .*' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		grep -oE 'https?://[^ ]*debian/?( |$)' | head -n 1 | tr -d ' ') || true
	debootstrap --variant=minbase --include=python3,python3-dev,python3-venv,python3-pip,ca-certificates,git,make,procps,gcc \
		sid "$folder.unfinished" ${mirror:+"$mirror"}
	# How this machine reaches names, packages and certificates is how the folder does.
	for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/apt/apt.conf.d /etc/apt/auth.conf.d /etc/ssl/certs \
		/usr/local/share/ca-certificates /usr/share/ca-certificates "$HOME/.config/pip"; do
		[ -e "$path" ] || continue
		rm -rf "${folder:?}.unfinished$path"
		mkdir -p "$(dirname "$folder.unfinished$path")"
		cp -rL "$path" "$folder.unfinished$path"
	done
	mv "$folder.unfinished" "$folder"
}

unmount() {
	for place in dev proc; do
		! mountpoint -q "$folder/$place" || umount "$folder/$place"
	done
}

# A root folder that was left half made is of no use; one whose /dev is still mounted must not be removed.
if [ ! -d "$folder" ]; then
	! mountpoint -q "$folder.unfinished/proc" || umount "$folder.unfinished/proc"
	rm -rf --one-file-system "$folder.unfinished"
	make_root
fi
rm -rf "$folder/project" && mkdir "$folder/project"
git -C "$project" archive HEAD | tar -x -C "$folder/project"

trap unmount EXIT
trap 'exit 130' INT TERM HUP
mount -t proc proc "$folder/proc"
mount --bind /dev "$folder/dev"
chroot "$folder" /usr/bin/env -i HOME=/root LANG=C.UTF-8 \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -c 'cd /project && exec "$@"' sh "$@"
