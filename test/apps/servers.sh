#!/bin/bash
# servers.sh start NAME        runs a server in the foreground
# servers.sh check NAME HOST   asks it, from another machine, as its own clients do; ports are in P1, P2, …
#
# Servers of Debian 12, unmodified; both parts pass on Linux. What they keep is in /tmp/srv.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
what=$1 name=$2 H=${3:-127.0.0.1}
W=/tmp/srv-$name-$what
rm -rf $W && mkdir -p $W && chmod 755 $W && cd $W || exit 1

as() { exec setpriv --reuid="$1" --regid="$1" --init-groups "${@:2}"; }
# soon COMMAND…: until it succeeds, half a minute at most.
soon() { local i; for ((i = 0; i < 150; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; echo "never: $*"; "$@"; }
web() { echo "a page from $name" > i.txt; }
get() { curl -sS -m 20 "$@"; }
page() { [ "$(get "http://$H:$P1/i.txt")" = "a page from $name" ]; }
# load [N]: some hundred requests, N or ten at a time, none of which may fail.
load() { seq 300 | xargs -P ${1:-10} -n 30 bash -c 'for i; do [ "$(curl -sS -m 20 "$0")" = "a page from '$name'" ] || exit 1; done' "http://$H:$P1/i.txt"; }

start_redis() { exec redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --appendonly yes --dir $W --io-threads 2; }
check_redis() {
	c="redis-cli -h $H -p $P1"; soon $c ping
	$c set key value; [ "$($c get key)" = value ] || return
	redis-benchmark -h $H -p $P1 -n 2000 -c 10 -q -t set,get,lpush,incr || return
	redis-benchmark -h $H -p $P1 -n 5000 -c 10 -P 16 -q -t set,get || return
	$c bgsave; soon sh -c "$c info persistence | grep rdb_bgsave_in_progress:0"; $c dbsize; $c shutdown nosave; ! soon_gone $c ping
}
soon_gone() { local i; for ((i = 0; i < 50; i++)); do "$@" >/dev/null 2>&1 || return 1; sleep 0.2; done; }

start_nginx() {
	web; cat > n.conf <<-E
	daemon off; worker_processes 2; pid $W/pid; error_log stderr; events { worker_connections 256; }
	http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; client_body_temp_path $W/b; proxy_temp_path $W/p; fastcgi_temp_path $W/f; uwsgi_temp_path $W/u; scgi_temp_path $W/s;
	server { listen 8080 reuseport; root $W; } }
	E
	head -c 3000000 /dev/zero | tr '\0' x > big; exec nginx -c $W/n.conf -p $W
}
check_nginx() {
	soon page && load || return
	[ "$(get http://$H:$P1/big | md5sum)" = "$(head -c 3000000 /dev/zero | tr '\0' x | md5sum)" ] || return
	wrk -t 1 -c 20 -d 3s http://$H:$P1/i.txt | tee wrk; grep -q 'Requests/sec' wrk && ! grep -q -e 'Socket errors' -e 'Non-2xx' wrk
}

start_memcached() { exec memcached -u root -l 0.0.0.0 -p 11211 -t 2; }
check_memcached() {
	soon nc -z $H $P1
	printf 'set k 0 0 5\r\nhello\r\nget k\r\nincr n 1\r\nstats\r\nquit\r\n' | timeout 20 nc -q 5 $H $P1 > out; grep -q hello out && grep -q 'STAT curr_items 1' out
}

start_postgres() {
	chown postgres $W; B=/usr/lib/postgresql/15/bin
	setpriv --reuid=postgres --regid=postgres --init-groups $B/initdb -D $W/d -N -A trust >/dev/null || exit
	echo 'host all all all trust' >> $W/d/pg_hba.conf; as postgres $B/postgres -D $W/d -p 5432 -k $W -h '*'
}
check_postgres() {
	q="psql -h $H -p $P1 -U postgres"; soon $q -c 'select 1'
	$q -qtc 'create table t as select generate_series(1,20000) a; create index on t(a); analyze t; select sum(a) from t' | grep -q 200010000 || return
	pgbench -h $H -p $P1 -U postgres -i -q -s 1 postgres && pgbench -h $H -p $P1 -U postgres -c 4 -j 2 -t 25 postgres | tee out; grep -q 'transactions actually processed: 100/100' out
}

start_mariadb() {
	chown mysql $W; mariadb-install-db --no-defaults --user=mysql --datadir=$W/d --auth-root-authentication-method=normal >/dev/null || exit
	mariadbd --no-defaults --user=mysql --datadir=$W/d --socket=$W/s --bootstrap <<-E
	use mysql;
	flush privileges;
	create user 'u'@'%' identified by 'p';
	create user 'u'@'localhost' identified by 'p';
	grant all on *.* to 'u'@'%';
	grant all on *.* to 'u'@'localhost';
	E
	exec mariadbd --no-defaults --user=mysql --datadir=$W/d --socket=$W/s --port=3306 --bind-address=0.0.0.0
}
check_mariadb() {
	q="mariadb --no-defaults -h $H -P $P1 -u u -pp"; soon $q -e 'select 1'
	$q -e 'create database x; use x; create table t(a int primary key auto_increment, b varchar(40)) engine=innodb; insert into t(b) select uuid() from information_schema.columns limit 1000; select count(*) n from t' | grep -q 1000
}

start_apache2() {
	web; cat > a.conf <<-E
	ServerRoot $W
	ServerName x
	Listen 8080
	PidFile $W/pid
	ErrorLog /dev/stderr
	LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
	LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
	DocumentRoot $W
	User www-data
	Group www-data
	E
	exec apache2 -f $W/a.conf -DFOREGROUND
}
check_apache2() { soon page && load && ab -q -n 200 -c 5 http://$H:$P1/i.txt | tee out; grep -q 'Failed requests: *0' out; }

start_haproxy() {
	web; for p in 8081 8082; do busybox httpd -p 127.0.0.1:$p -h $W; done
	cat > h.cfg <<-E
	global
	  maxconn 200
	defaults
	  mode http
	  timeout connect 5s
	  timeout client 20s
	  timeout server 20s
	frontend f
	  bind :8080
	  default_backend b
	backend b
	  balance roundrobin
	  server a 127.0.0.1:8081 check
	  server b 127.0.0.1:8082 check
	E
	exec haproxy -f h.cfg -db
}
check_haproxy() { soon page && load; }

start_php_fpm() {
	echo '<?php echo "a page from ", $_GET["n"], "\n";' > i.php
	cat > f.conf <<-E
	[global]
	error_log = /dev/stderr
	daemonize = no
	[www]
	user = www-data
	group = www-data
	listen = $W/sock
	listen.mode = 0666
	pm = dynamic
	pm.max_children = 4
	pm.start_servers = 2
	pm.min_spare_servers = 1
	pm.max_spare_servers = 3
	E
	cat > n.conf <<-E
	worker_processes 1; pid $W/pid; error_log stderr; events { worker_connections 64; }
	http { access_log off; client_body_temp_path $W/b; proxy_temp_path $W/p; fastcgi_temp_path $W/f; uwsgi_temp_path $W/u; scgi_temp_path $W/s;
	server { listen 8080; location /i.txt { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME $W/i.php; fastcgi_param QUERY_STRING n=php_fpm; fastcgi_pass unix:$W/sock; } } }
	E
	nginx -c $W/n.conf -p $W; exec php-fpm8.2 -F -y $W/f.conf
}
check_php_fpm() { soon page && load; }

start_dnsmasq() { exec dnsmasq -k -p 5353 -u root -R -h -C /dev/null --address=/name.test/192.0.2.7 --txt-record=t.test,words --log-facility=-; }
check_dnsmasq() {
	d="dig @$H +time=5 +tries=3 +short"; soon sh -c "$d -p $P1 name.test | grep -q 192"
	[ "$($d -p $P1 name.test)" = 192.0.2.7 ] && [ "$($d -p $P1 t.test TXT)" = '"words"' ] && [ "$($d -p $P2 +tcp name.test)" = 192.0.2.7 ]
}

start_sshd() {
	mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f $W/host
	echo "$PUBLIC" > $W/keys; chmod 600 $W/keys
	exec /usr/sbin/sshd -D -e -f /dev/null -p 2222 -h $W/host -o AuthorizedKeysFile=$W/keys -o StrictModes=no -o PermitRootLogin=yes -o UsePAM=no -o PidFile=none
}
remote() { ssh -q -i key -p $P1 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=20 $options root@$H "$@"; }
private() { (umask 077; echo "$PRIVATE" > key); }
check_sshd() {
	private; soon remote true; [ "$(remote 'echo $((6*7)); cat' <<< through)" = $'42\nthrough' ] || return
	remote 'exit 5'; [ $? = 5 ] || return
	[ "$(head -c 2000000 /dev/zero | remote 'wc -c')" = 2000000 ] && options=-tt remote tty | grep -q /dev/pts/
}
start_dropbear() {
	dropbearkey -t ed25519 -f $W/host >/dev/null; mkdir -p /root/.ssh; chmod 700 /root/.ssh; echo "$PUBLIC" > /root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys
	exec dropbear -F -E -p 2222 -r $W/host -P $W/pid
}
check_dropbear() { private; soon remote true; [ "$(remote 'echo $((6*7)); cat' <<< through)" = $'42\nthrough' ]; }

start_rsync() {
	mkdir data; cp -r /usr/share/perl5/. data/; printf 'use chroot = no\n[d]\npath = %s/data\nread only = no\nuid = 0\ngid = 0\n' $W > r.conf
	exec rsync --daemon --no-detach --port=8730 --config=$W/r.conf
}
check_rsync() {
	soon rsync rsync://$H:$P1/ ; rsync -a rsync://$H:$P1/d/ here/ && diff -r here /usr/share/perl5 || return
	head -c 3000000 /dev/urandom > here/new; rsync -a here/ rsync://$H:$P1/d/ && rsync -a rsync://$H:$P1/d/new again && cmp again here/new
}

start_iperf3() { exec iperf3 -s -p 5201; }
check_iperf3() { soon nc -z $H $P1; sleep 1; iperf3 -c $H -p $P1 -t 2 | tee out; grep -q receiver out && sleep 1 && iperf3 -c $H -p $P1 -t 2 -R | tee out; grep -q receiver out; }

start_node() { exec node -e 'require("http").createServer((q,r)=>r.end("a page from node\n")).listen(8080)'; }
check_node() { soon page && load; }
start_python() { web; exec python3 -m http.server 8080; }
check_python() { soon page && load 4; } # it lets five connections wait
start_java() {
	cat > S.java <<-'E'
	import com.sun.net.httpserver.*;
	class S { public static void main(String[] a) throws Exception {
	  var s = HttpServer.create(new java.net.InetSocketAddress(8080), 0); s.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(4));
	  s.createContext("/", x -> { var b = "a page from java\n".getBytes(); x.sendResponseHeaders(200, b.length); x.getResponseBody().write(b); x.close(); }); s.start(); } }
	E
	exec java S.java
}
check_java() { for i in 1 2 3; do soon page && break; done; load; }

start_etcd() { exec /apps/etcd --data-dir $W/d --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --log-level error; }
check_etcd() { export ETCDCTL_API=3; c="etcdctl --endpoints http://$H:$P1"; soon $c get x; $c put key value; [ "$($c get key --print-value-only)" = value ] && for i in $(seq 20); do $c put k$i v$i >/dev/null || return; done; [ "$($c get k --prefix --keys-only | grep -c k)" = 21 ]; }
start_caddy() { web; exec /apps/caddy file-server --root $W --listen :8080; }
check_caddy() { soon page && load; }
start_go_http2() { exec /apps/http2; }
check_go_http2() { u="https://$H:$P1/"; soon get -k $u; [ "$(get -k --http2 $u)" = HTTP/2.0 ] && [ "$(get -k --http1.1 $u)" = HTTP/1.1 ]; }

# What programs in the machine get from outside: $URL is a page of 1,000,000 bytes, $H and $P1 its server.
start_clients() {
	soon get $URL; [ "$(get $URL | wc -c)" = 1000000 ] && [ "$(wget -qO - $URL | md5sum)" = "$(get $URL | md5sum)" ] &&
	[ "$(busybox wget -qO - $URL | wc -c)" = 1000000 ] && printf 'GET /x HTTP/1.0\r\n\r\n' | nc -q 5 $H $P1 | head -1 | grep -q '200 OK' && echo okay
}

if [ "$what" = start ]; then start_$name; else set -o pipefail; check_$name; fi
