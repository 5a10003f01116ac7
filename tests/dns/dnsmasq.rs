//! Against dnsmasq.

use std::net::Ipv4Addr;

use ::cosocket::dns::{RecordData, RecordType};

use super::socket_util::everywhere;
use super::*;

const HOSTS: usize = 200;
/// More than a datagram takes, so that it is asked for by TCP.
const TEXTS: usize = 100;

fn lines() -> String {
    let mut lines = String::from(
        "local=/test/\nlocal=/arpa/\nlocal-ttl=60\nneg-ttl=60\n\
         host-record=both.test,192.0.2.7,2001:db8::7\ncname=alias.test,middle.test\n\
         cname=middle.test,both.test\nmx-host=test,mail.test,5\n\
         srv-host=_http._tcp.test,both.test,8080,1,2\n",
    );
    for number in 0..TEXTS {
        lines += &format!("txt-record=long.test,part {number} of a long answer\n");
    }
    for host in 0..HOSTS {
        lines += &format!("address=/host-{host}.test/{}\n", Ipv4Addr::new(192, 0, 2, host as u8));
    }
    lines
}

#[test]
fn names_are_looked_up_at_dnsmasq() {
    let Some(server) = peers::dnsmasq(&lines()) else { return };
    let mut config = Config::default();
    config.servers = vec![server.address];
    config.timeout = LONG;
    config.search = vec!["test".into()];
    let builder = Resolver::builder().config(config).no_hosts();
    everywhere(|| {
        let resolver = builder.clone().build();
        let sorted = |host: &str| {
            let mut found = resolver.look_up(host).unwrap();
            found.sort();
            found
        };
        for host in ["both.test", "alias.test", "both", "BOTH.TEST."] {
            assert_eq!(sorted(host), ips(&["192.0.2.7", "2001:db8::7"]), "{host}");
        }
        assert!(resolver.look_up("unknown.test").unwrap_err().is_not_found());
        let texts = resolver.query("long.test", RecordType::Txt).unwrap();
        assert_eq!(texts.len(), TEXTS);
        let service = resolver.query("_http._tcp.test", RecordType::Srv).unwrap();
        assert!(matches!(&service[0].data, RecordData::Srv { port: 8080, priority: 1, .. }));
        let mail = resolver.query("test", RecordType::Mx).unwrap();
        assert!(
            matches!(&mail[0].data, RecordData::Mx { preference: 5, exchange: e } if e == "mail.test")
        );
        for ip in ["192.0.2.7", "2001:db8::7"] {
            assert_eq!(resolver.reverse(ip.parse().unwrap()).unwrap(), ["both.test"]);
        }
    });
    ::cosocket::run(|| {
        let resolver = builder.clone().ipv6(false).build();
        ::cosocket::thread::scope(|scope| {
            for coroutine in 0..100 {
                let resolver = &resolver;
                scope.spawn(move || {
                    for number in 0..20 {
                        let host = (coroutine * 37 + number) % HOSTS;
                        let found = resolver.look_up(&format!("host-{host}")).unwrap();
                        assert_eq!(found, [IpAddr::from([192, 0, 2, host as u8])]);
                    }
                });
            }
        });
        let metrics = resolver.metrics();
        assert!(metrics.queries <= HOSTS as u64, "{metrics:?}");
    });
}
