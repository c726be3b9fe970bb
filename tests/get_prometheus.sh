#!/bin/sh
# Puts Prometheus and promtool on PATH for the tests, from Debian's package. Usage: get_prometheus.sh VENV
#
# As root the package is installed: Debian's Prometheus looks for its pages in /usr/share and answers 500 for each of
# them when it was only unpacked. Its service is neither started nor enabled. Any other user gets it unpacked into the
# virtual environment, without those pages.
#
# The exit status is 0 in any case: without apt or network the tests that need Prometheus skip.
set -u
venv=$(cd "$1" && pwd) || exit
log=$venv/prometheus.log
policy=/usr/sbin/policy-rc.d
APT="timeout 300 apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=20"

# The lists of a fresh machine are empty or old, so a second try renews them.
with_lists() { "$@" || { $APT update && "$@"; }; }

install_package() {
	# invoke-rc.d and deb-systemd-invoke start nothing where this file forbids it.
	if [ ! -e $policy ]; then
		trap 'rm -f $policy' EXIT
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy || return
	fi
	DEBIAN_FRONTEND=noninteractive with_lists $APT install --yes --no-install-recommends prometheus || return
	# The package has enabled its service for the next start of the machine. This covers systemd as well.
	update-rc.d prometheus disable
}

unpack_package() {
	rm -rf "$venv/prometheus" && mkdir "$venv/prometheus" && cd "$venv/prometheus" || return
	with_lists $APT download prometheus && dpkg-deb --extract prometheus_*.deb . || return
	ln -sf ../prometheus/usr/bin/prometheus ../prometheus/usr/bin/promtool "$venv/bin/"
}

command -v prometheus >/dev/null && exit
echo "fetching Prometheus"
if [ "$(id -u)" = 0 ]; then get=install_package; else get=unpack_package; fi
$get >"$log" 2>&1 || echo "no Prometheus here ($log says why): the tests that need it will skip"
exit 0
