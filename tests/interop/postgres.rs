//! postgres-protocol against PostgreSQL: SCRAM, parameters, errors, transactions.

#[allow(dead_code)]
#[path = "../../examples/crates/postgres_client.rs"]
mod example;

use std::net::SocketAddr;

use cosocket::thread;

use crate::{at_once, payload, peers};
use example::Client;

const PASSWORD: &str = "correct horse";

/// A server that listens may still be starting up.
fn connect(address: SocketAddr) -> Client {
    loop {
        match Client::connect(&address.to_string(), "app", PASSWORD) {
            Ok(client) => return client,
            Err(error) => assert!(error.to_string().contains("starting up"), "{error}"),
        }
        thread::yield_now();
    }
}

#[test]
fn fifty_sessions_query_postgres() {
    let Some(server) = peers::postgres(PASSWORD) else { return };
    let address = server.address;
    cosocket::run(|| {
        let mut client = connect(address);
        client.query("CREATE TABLE item (owner int, number int, text text)", &[]).unwrap();
        at_once(50, |owner| session(&mut connect(address), owner).unwrap());
        let counted = client.query("SELECT owner, count(*) FROM item GROUP BY 1", &[]).unwrap();
        assert!(counted.len() >= 10);
        assert!(counted.iter().all(|row| row[1].as_deref() == Some("20")));

        let refused = Client::connect(&address.to_string(), "app", "wrong").err().unwrap();
        assert!(refused.to_string().contains("password authentication failed"), "{refused}");
    });
}

fn session(client: &mut Client, owner: usize) -> std::io::Result<()> {
    let owner_text = owner.to_string();
    let text = |number| -> String {
        let bytes = payload(owner, number, number * number * 53 + 1);
        bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
    };
    client.query("BEGIN", &[])?;
    for number in 0..20 {
        let parameters = [owner_text.as_str(), &number.to_string(), &text(number)];
        client.query("INSERT INTO item VALUES ($1, $2, $3)", &parameters)?;
    }
    client.query("COMMIT", &[])?;

    let select = "SELECT number, text, NULL FROM item WHERE owner = $1 ORDER BY number";
    let rows = client.query(select, &[&owner_text])?;
    assert_eq!(rows.len(), 20);
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row[0], Some(number.to_string()));
        assert!(row[1] == Some(text(number)), "owner {owner}, number {number}");
        assert_eq!(row[2], None);
    }

    let error = client.query("SELECT 1 / $1::int", &["0"]).unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
    // Many packets in one answer, and the connection goes on after an error.
    let rows = client.query("SELECT generate_series(1, $1::int)", &["10000"])?;
    assert!(rows.into_iter().eq((1..=10_000).map(|n: i32| vec![Some(n.to_string())])));
    Ok(())
}
