//! Feeds whose barriers overtake give the same blocks as others, also when what was in flight was
//! saved and read again; files that are cut or changed.

use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;
use crate::flow::exchange::Ended;
use crate::flow::feed::Step;
use crate::flow::reader::block_on;
use crate::ground::limits::RING_MESSAGES;
use crate::ground::ring::{Receiver, Sender, ring};
use crate::ground::schema::DataType;

const EPOCH: u64 = 3;

fn stage() -> Stage {
    let mut stage = Stage::new("t".into(), vec![vec![0]], vec![DataType::BigInt]);
    stage.inputs = vec![InputForm { width: 2, heaped: vec![1], form: 77 }];
    stage
}

/// Rows of a number and a text, some too long for its slot; every other row of a batch is meant, or
/// all are.
fn rows(first: u64, count: usize, is_part: bool) -> Message {
    let mut builder = BatchBuilder::new(2, count);
    let step = if is_part { 2 } else { 1 };
    for i in 0..count as u64 * step {
        let text = slot::put(
            format!("{:>1$}", i, 1 + (i as usize * 5) % 12).as_bytes(),
            &mut builder.heap,
        );
        builder.push(&[first + i / step, text]);
    }
    let times: Vec<Time> = (0..count as i64).map(|i| first as i64 + i).collect();
    Message::Rows(Parcel {
        input: 0,
        records: Arc::new(builder.finish()),
        select: (0..count as u32).map(|i| i * step as u32).collect(),
        marks: times.iter().map(|time| time - 5).collect(),
        hashes: times.iter().map(|&time| time as u64 * 31).collect(),
        times,
        arrival: None,
    })
}

/// What a shard says in a block: some rows and its end.
fn block(number: usize, shard: usize, rows_each: usize) -> Vec<Message> {
    let first = (number * 100 + shard * 10) as u64;
    let part = rows_each.min(1 + number % 3);
    let mut said = Vec::new();
    if part > 0 {
        said.push(rows(first, part, number.is_multiple_of(2)));
    }
    said.push(Message::BlockEnd { arrival: None, mark: first as Time, idle: number == 3 });
    said
}

/// Blocks of each shard with a barrier behind some of them; it overtakes `over[shard]` of them.
fn said(is_stage: bool, shards: usize, blocks: usize, over: Option<&[usize]>) -> Vec<Vec<Message>> {
    let mut said: Vec<Vec<Message>> = (0..shards).map(|_| Vec::new()).collect();
    let (before, mut turn) = (blocks / 2, 0);
    for number in 0..blocks {
        for (shard, own) in said.iter_mut().enumerate() {
            let at = over.map_or(before, |over| before - over[shard].min(before));
            let is_overtaken = over.is_some() && is_stage;
            if is_overtaken && number == at {
                own.push(Message::Barrier { epoch: EPOCH, overtakes: true });
            }
            if number == before {
                own.push(match is_overtaken {
                    true => Message::Place { epoch: EPOCH },
                    false => Message::Barrier { epoch: EPOCH, overtakes: false },
                });
            }
        }
        turn = if number == before { 0 } else { turn };
        let tellers: Vec<usize> = if is_stage { (0..shards).collect() } else { vec![turn] };
        tellers.into_iter().for_each(|shard| said[shard].extend(block(number, shard, 2)));
        turn = (turn + 1) % shards;
    }
    said.iter_mut().for_each(|own| own.push(Message::End { finished: true }));
    said
}

fn producer(is_stage: bool) -> Producer {
    if is_stage { Producer::Stage(0) } else { Producer::Source(0) }
}

/// Rings that hold all of what shards say.
fn rings(said: Vec<Vec<Message>>) -> (Vec<Sender<Message>>, Vec<Receiver<Message>>) {
    let filled = said.into_iter().map(|own| {
        let (mut sender, receiver) = ring(own.len().max(RING_MESSAGES));
        own.into_iter().for_each(|message| assert!(sender.try_send(message).is_ok()));
        (sender, receiver)
    });
    filled.unzip()
}

/// A step in words.
fn told(feed: &Feed, step: &Step) -> String {
    match step {
        Step::Rows(parcel) => {
            let text = |&row: &u32| {
                let row = row as usize;
                let text = parcel.records.get_bytes(row, 1).expect("a text").to_vec();
                (parcel.records.row(row)[0], String::from_utf8(text).expect("a text"))
            };
            let texts: Vec<_> = parcel.select.iter().map(text).collect();
            format!("{texts:?} {:?} {:?} {:?}", parcel.times, parcel.marks, parcel.hashes)
        }
        Step::BlockEnd { .. } => format!("end {} {}", feed.carry, feed.idle),
        Step::Barrier => format!("barrier {:?}", feed.barrier),
        Step::Done => format!("done {:?}", feed.done),
    }
}

/// Takes blocks until so many were taken, or the feed is over.
fn take(feed: &mut Feed, blocks: usize, out: &mut Vec<String>) {
    let mut taken = 0;
    while taken < blocks && feed.done.is_none() {
        let step = block_on(feed.next()).unwrap_or_else(|_: Ended| panic!("a shard is gone"));
        if feed.overtaken.is_some() {
            overtake(feed);
            continue;
        }
        out.push(told(feed, &step));
        taken += usize::from(matches!(step, Step::BlockEnd { .. }));
        feed.barrier = None;
    }
}

fn overtake(feed: &mut Feed) {
    feed.pass(EPOCH);
    let drained = feed.poll_drain(EPOCH, &mut Context::from_waker(Waker::noop()));
    assert!(matches!(drained, std::task::Poll::Ready(Ok(()))), "all is in the rings");
}

/// The messages of a feed as a file has them, and as they are read from it.
fn through_a_file(feed: &Feed) -> (Vec<u8>, Place, Vec<VecDeque<Message>>) {
    let mut flights = Flights::default();
    flights.note(EPOCH - 1, vec![vec![1]]);
    flights.note(EPOCH, vec![bytes_of("a", &stage(), feed, EPOCH)]);
    flights.note(EPOCH - 1, vec![vec![1]]);
    let (name, bytes) = flights.take(EPOCH).expect("a feed was noted");
    assert_eq!(name, "flight-0000000003");
    let mut kept = take_apart(read(&bytes)).expect("it is whole");
    assert_eq!(kept.len(), 1);
    let kept = kept.remove(0);
    assert_eq!((&kept.producer[..], &kept.stage[..], &kept.forms[..]), ("a", "t", &[77][..]));
    let shards = kept.messages.into_iter();
    let load = |of: Vec<KeptMessage<'_>>| of.into_iter().map(|m| taken(m, &stage())).collect();
    let ahead: Result<Vec<VecDeque<Message>>, _> = shards.map(load).collect();
    let ahead = ahead.expect("they are of this stage");
    let place = kept.place;
    (bytes, place, ahead)
}

fn read(bytes: &[u8]) -> Read<'_> {
    Read { rest: bytes, what: "`flight`".into() }
}

proptest! {
    #[test]
    fn blocks_are_the_same_whether_a_barrier_overtakes_them_or_not(
        is_stage: bool, shards in 1..4usize, blocks in 0..12usize,
        over in proptest::collection::vec(0..6usize, 3),
        cut in 0..12usize, is_saved: bool
    ) {
        let (_aligned, receivers) = rings(said(is_stage, shards, blocks, None));
        let mut feed = Feed::new(producer(is_stage), receivers, 0, EPOCH - 1);
        let mut expected = Vec::new();
        take(&mut feed, usize::MAX, &mut expected);

        let (_senders, receivers) = rings(said(is_stage, shards, blocks, Some(&over)));
        let mut feed = Feed::new(producer(is_stage), receivers, 0, EPOCH - 1);
        let mut got = Vec::new();
        // Not behind the barrier's place: there it is aligned.
        take(&mut feed, cut.min(blocks / 2), &mut got);
        overtake(&mut feed);
        if is_saved && feed.done.is_none() {
            let (_, place, ahead) = through_a_file(&feed);
            prop_assert_eq!(&place, &feed.place());
            let rest: Vec<Vec<Message>> = feed.into_rest();
            let (_senders, receivers) = rings(rest);
            let mut feed = Feed::resumed(producer(is_stage), receivers, EPOCH, place, ahead);
            take(&mut feed, usize::MAX, &mut got);
        } else {
            take(&mut feed, usize::MAX, &mut got);
        }
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn a_file_that_is_cut_is_refused_and_one_that_is_changed_harms_nobody() {
    let (_senders, receivers) = rings(said(true, 2, 6, Some(&[0, 1])));
    let mut feed = Feed::new(producer(true), receivers, 0, EPOCH - 1);
    overtake(&mut feed);
    let (bytes, _, ahead) = through_a_file(&feed);
    assert!(ahead.iter().map(VecDeque::len).sum::<usize>() > 2, "something is in flight");
    assert!(take_apart(read(&bytes)).expect("it is whole").iter().all(Kept::has_rows));
    for len in 0..bytes.len() {
        let error = take_apart(read(&bytes[..len])).err().expect("it is cut");
        assert!(error.to_string().contains("`flight`"), "{error}");
    }
    let stage = stage();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        // The checksum of the file around it finds it; without one nothing may break.
        for kept in take_apart(read(&changed)).unwrap_or_default() {
            for message in kept.messages.into_iter().flatten() {
                let _ = taken(message, &stage);
            }
        }
    }
}
