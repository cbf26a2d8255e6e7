//! Every order in which a producer and a consumer can touch the ring (up to loom's bound).
#![cfg(all(test, loom))]

#[allow(dead_code)]
#[path = "../../../src/ground/ring.rs"]
mod ring;

use loom::future::block_on;
use loom::thread;
use ring::ring;

#[test]
fn values_cross_once_in_order_and_both_ends_wake() {
    loom::model(|| {
        let (mut sender, mut receiver) = ring(1);
        let producer = thread::spawn(move || {
            block_on(async {
                for i in 0..2u32 {
                    assert!(sender.send(Box::new(i)).await.is_ok());
                }
            });
        });
        block_on(async {
            assert_eq!(receiver.receive().await.as_deref(), Some(&0));
            assert_eq!(receiver.receive().await.as_deref(), Some(&1));
            assert_eq!(receiver.receive().await, None);
        });
        producer.join().unwrap();
    });
}

#[test]
fn a_receiver_that_goes_frees_a_waiting_sender() {
    loom::model(|| {
        let (mut sender, receiver) = ring(1);
        let consumer = thread::spawn(move || drop(receiver));
        block_on(async {
            while sender.send(Box::new(1u32)).await.is_ok() {
                loom::thread::yield_now();
            }
        });
        consumer.join().unwrap();
    });
}
