//! mqttbytes against mosquitto: each connection is written to by one coroutine and read by
//! another, at the same time.

#[allow(dead_code)]
#[path = "../../examples/crates/mqtt_client.rs"]
mod example;

use cosocket::thread;
use mqttbytes::v4::Packet;

use crate::{payload, peers, util};
use example::Client;

const MESSAGES: usize = 40;

/// In a ring: each sends to the next, and checks what comes from the one before.
#[test]
fn a_ring_of_clients_publishes_through_mosquitto() {
    let Some(server) = peers::mosquitto() else { return };
    let address = server.address;
    let clients = if util::is_quick() { 10 } else { 100 };
    cosocket::run(|| {
        // A message to who has not subscribed yet is lost.
        let subscribed: Vec<_> = (0..clients)
            .map(|number| {
                thread::spawn(move || {
                    let mut client = Client::connect(address, &format!("client-{number}")).unwrap();
                    client.subscribe(&format!("to/{number}/#")).unwrap();
                    client
                })
            })
            .collect();
        let subscribed: Vec<_> =
            subscribed.into_iter().map(|client| client.join().unwrap()).collect();
        thread::scope(|scope| {
            for (number, reader) in subscribed.into_iter().enumerate() {
                let writer = reader.try_clone().unwrap();
                scope.spawn(move || publish(writer, number, (number + 1) % clients));
                scope.spawn(move || receive(reader, (number + clients - 1) % clients));
            }
        });
    });
}

fn message(sender: usize, number: usize) -> Vec<u8> {
    payload(sender, number, number * number * 17)
}

fn publish(mut client: Client, sender: usize, receiver: usize) {
    for number in 0..MESSAGES {
        let topic = format!("to/{receiver}/{number}");
        client.publish(number as u16 + 1, &topic, &message(sender, number)).unwrap();
    }
}

/// Everything comes once and in order: the broker's messages, and its acknowledgements of ours.
fn receive(mut client: Client, sender: usize) {
    let (mut received, mut acknowledged) = (0, 0);
    while received < MESSAGES || acknowledged < MESSAGES {
        match client.receive().unwrap() {
            Packet::Publish(publish) => {
                assert!(publish.topic.ends_with(&format!("/{received}")), "{}", publish.topic);
                assert!(publish.payload == message(sender, received), "from {sender}");
                client.acknowledge(&publish).unwrap();
                received += 1;
            }
            Packet::PubAck(ack) => {
                acknowledged += 1;
                assert_eq!(usize::from(ack.pkid), acknowledged);
            }
            other => panic!("{other:?}"),
        }
    }
}
