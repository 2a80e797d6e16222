//! What is kept long is copied out: a slice of a read buffer would keep all of it.
//!
//! The measure is the resident size of this process, so this is a test program of its own with one test at a time.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;

use amqp_rpc::{broker::Broker, client::Channel, codec::*, short};

static ALONE: Mutex<()> = Mutex::new(());

/// Octets resident now.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn publish(channel: &Channel, queue: ShortString, messages: usize, body: &[u8]) {
    for _ in 0..messages {
        channel
            .publish("", queue.clone(), body.to_vec())
            .await
            .unwrap();
    }
}

fn run(test: impl Future<Output = ()>) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let mut runtime = runtime;
    runtime.enable_all().build().unwrap().block_on(test);
}

async fn queue() -> (Broker, Channel) {
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel
        .queue_declare(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await
        .unwrap();
    (broker, channel)
}

#[test]
fn a_consumer_that_keeps_every_hundredth_message_keeps_no_buffers() {
    // 50,000 messages of 1 KiB; the 500 kept are half a MiB, and as slices they would keep 500 buffers of 64 KiB: 31 MiB.
    run(async {
        let (_broker, channel) = queue().await;
        let mut consumer = channel.consume("q").await.unwrap();
        let mut kept = Vec::new();
        let mut before = 0;
        for round in 0..51_usize {
            let batch = async {
                for number in 0..1000_usize {
                    let delivery = consumer.next().await.unwrap().unwrap();
                    let (received, acker) = delivery.into_parts();
                    acker.ack().await.unwrap();
                    if round > 0 && number % 100 == 0 {
                        kept.push(received.into_owned());
                    }
                }
            };
            tokio::join!(publish(&channel, short!("q"), 1000, &[b'x'; 1024]), batch);
            if round == 0 {
                before = resident(); // everything is warm
            }
        }
        let grown = resident().saturating_sub(before);
        assert_eq!(kept.len(), 500);
        assert!(
            grown < 8 << 20,
            "{grown} octets more for {} kept",
            kept.len() * 1024
        );
    });
}

#[test]
fn a_broker_that_keeps_every_hundredth_message_keeps_no_buffers() {
    // 100,000 messages of 1 KiB pass through; every hundredth goes to a queue that nobody reads.
    run(async {
        let (broker, channel) = queue().await;
        let kept = QueueDeclare {
            queue: short!("kept"),
            ..Default::default()
        };
        channel.queue_declare(kept).await.unwrap();
        let consume = BasicConsume {
            queue: short!("q"),
            ..Default::default()
        };
        let mut consumer = channel.consume_no_ack(consume).await.unwrap();
        let mut before = 0;
        for round in 0..101_usize {
            let drained = async {
                for _ in 0..990 {
                    consumer.next().await.unwrap().unwrap();
                }
            };
            let published = async {
                for _ in 0..10 {
                    publish(&channel, short!("q"), 99, &[b'x'; 1024]).await;
                    publish(&channel, short!("kept"), 1, &[b'x'; 1024]).await;
                }
            };
            tokio::join!(drained, published);
            if round == 0 {
                before = resident();
            }
        }
        while broker.queue("kept").unwrap().ready < 1010 {
            tokio::task::yield_now().await;
        }
        let grown = resident().saturating_sub(before);
        assert!(
            grown < 12 << 20,
            "{grown} octets more for a MiB in the queue"
        ); // 1000 buffers are 62 MiB
    });
}
