//! What every transport must do, checked by ranks that all run `check`.

use std::time::Duration;

use super::wait::{Mood, Waiter};
use super::{Channel, Collective, Incoming, Transport};
use crate::array::op::{BuiltIn, Number, Operation};
use crate::array::{aligned, aligned_in, room_for};

/// Runs the whole contract on one rank; every rank of the transport must call it.
pub(crate) fn check(transport: &mut dyn Transport) {
    collectives_give_what_they_promise(transport);
    parts_of_buffers_go_where_they_belong(transport);
    numbers_of_all_ranks_are_reduced(transport);
    messages_of_a_pair_keep_their_order(transport);
    large_and_empty_messages_arrive_whole(transport);
    many_messages_may_be_under_way(transport);
    what_has_arrived_is_found_at_once(transport);
    collectives_and_messages_do_not_disturb_each_other(transport);
    transport.close(&mut drop).expect("close");
}

fn collective(transport: &mut dyn Transport, collective: Collective) -> Vec<Vec<u8>> {
    transport.start(collective).expect("start");
    let mut waiter = Waiter::default();
    loop {
        if let Some(result) = transport.test().expect("test") {
            return result;
        }
        waiter.wait(Mood::Starving, std::thread::sleep);
    }
}

fn receive(transport: &mut dyn Transport) -> Incoming {
    let mut waiter = Waiter::default();
    loop {
        if let Some(incoming) = transport.receive().expect("receive") {
            return incoming;
        }
        waiter.wait(Mood::without_work(transport), std::thread::sleep);
    }
}

fn collectives_give_what_they_promise(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    let mine = |rank: usize| vec![rank as u8; rank * 3];
    let all: Vec<Vec<u8>> = (0..size).map(mine).collect();
    assert!(collective(transport, Collective::Barrier).is_empty());
    assert_eq!(collective(transport, Collective::AllGather(mine(rank))), all);
    let gathered = collective(transport, Collective::Gather(mine(rank)));
    assert_eq!(gathered, if rank == 0 { all } else { Vec::new() });
    for length in [0, 1, 100_000] {
        let bytes = if rank == 0 { vec![7u8; length] } else { vec![1; 5] };
        assert_eq!(collective(transport, Collective::Broadcast(bytes)), [vec![7u8; length]]);
    }
}

fn parts_of_buffers_go_where_they_belong(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    let all: Vec<u8> = (0..size).flat_map(|other| [other as u8, 7]).collect();
    assert_eq!(collective(transport, Collective::Cards(vec![rank as u8, 7])), [all]);

    // From rank a to rank b go a + b bytes, none where both are rank 0; what is sent overlaps.
    for most in [1, 50_000] {
        let content = |from: usize, at: usize| (31 * from + at) as u8;
        let send: Vec<u8> = (0..2 * size * most).map(|at| content(rank, at)).collect();
        let outgoing = (0..size).map(|to| to..to + (rank + to) * most / 2).collect();
        let mut end = 3;
        let mut incoming = Vec::new();
        for from in 0..size {
            incoming.push(end..end + (from + rank) * most / 2);
            end = incoming[from].end;
        }
        let receive = vec![255; end + 2];
        let got = collective(transport, Collective::Exchange { send, outgoing, receive, incoming: incoming.clone() });
        for (from, part) in incoming.into_iter().enumerate() {
            let expected: Vec<u8> = (rank..rank + part.len()).map(|at| content(from, at)).collect();
            assert!(got[0][part] == expected, "what rank {from} sent to rank {rank}");
        }
        assert_eq!((&got[0][..3], got[0].last()), (&[255; 3][..], Some(&255)));
    }

    let parts: Vec<_> = (0..size).map(|other| 5 * other..5 * other + other % 3).collect();
    let mine = vec![rank as u8; 4];
    let got = collective(transport, Collective::Spread { mine, all: vec![255; 5 * size], parts: parts.clone() });
    for (other, part) in parts.into_iter().enumerate() {
        assert!(got[0][part.clone()].iter().all(|byte| usize::from(*byte) == other), "{:?}", got[0]);
        assert_eq!(got[0][part.end], 255);
    }
}

fn numbers_of_all_ranks_are_reduced(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    for (operation, expected) in [(Operation::Sum, size * (size - 1) / 2), (Operation::Max, size - 1)] {
        let (count, function) = (1000, BuiltIn { number: Number::F64, operation });
        let (mut send, receive) = (room_for(8 * count), room_for(8 * count));
        aligned(&mut send, 8 * count).copy_from_slice(bytemuck::cast_slice(&vec![rank as f64; count]));
        let got = collective(transport, Collective::AllReduce { send, receive, count, function });
        assert_eq!(
            bytemuck::pod_collect_to_vec::<u8, f64>(aligned_in(&got[0], 8 * count)),
            vec![expected as f64; count]
        );
    }
}

fn messages_of_a_pair_keep_their_order(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    let count = 200u32;
    for number in 0..count {
        let channel = [Channel::Partials, Channel::Control, Channel::Values][number as usize % 3];
        for to in (0..size).filter(|to| *to != rank) {
            // Lengths that differ by far take different paths inside an MPI library.
            let mut bytes = vec![0; if number % 7 == 0 { 100_000 } else { 4 }];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            transport.send(to, channel, bytes).expect("send");
        }
    }
    let mut next = vec![0u32; size];
    for _ in 0..count as usize * (size - 1) {
        let incoming = receive(transport);
        let number = next[incoming.from];
        assert_eq!(incoming.bytes[..4], number.to_le_bytes(), "from rank {}", incoming.from);
        assert_eq!(incoming.channel, [Channel::Partials, Channel::Control, Channel::Values][number as usize % 3]);
        next[incoming.from] += 1;
    }
    collective(transport, Collective::Barrier);
}

fn large_and_empty_messages_arrive_whole(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
    if size == 1 {
        return;
    }
    let pattern = |sender: usize, len: usize| -> Vec<u8> { (0..len).map(|i| (i * 31 + sender) as u8).collect() };
    for len in [0, 1, 4095, 4096, 4097, 3 * 4096, 2_000_003] {
        transport.send(to, Channel::Control, pattern(rank, len)).expect("send");
        transport.send(to, Channel::Partials, vec![9]).expect("send");
    }
    for len in [0, 1, 4095, 4096, 4097, 3 * 4096, 2_000_003] {
        let large = receive(transport);
        assert_eq!((large.from, large.bytes.len(), large.channel), (from, len, Channel::Control));
        assert!(large.bytes == pattern(from, len), "content of {len} bytes");
        assert_eq!(receive(transport), Incoming { from, channel: Channel::Partials, bytes: vec![9] });
    }
    collective(transport, Collective::Barrier);
}

fn many_messages_may_be_under_way(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    if rank > 0 {
        for number in 0..3000u32 {
            transport.send(0, Channel::Control, number.to_le_bytes().repeat(50)).expect("send");
        }
    } else {
        for _ in 0..3000 * (size - 1) {
            assert_eq!(receive(transport).bytes.len(), 200);
        }
    }
    collective(transport, Collective::Barrier);
}

/// Whoever sleeps for long between two looks must not need two of them.
fn what_has_arrived_is_found_at_once(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    let mut found = 0;
    // A machine that is busy may be late with some.
    for _ in 0..20 {
        collective(transport, Collective::Barrier);
        if rank == 0 {
            // The others look for the end of the barrier no more.
            std::thread::sleep(Duration::from_millis(2));
            (1..size).for_each(|to| transport.send(to, Channel::Control, vec![7]).expect("send"));
            // It is on its way with the next look.
            assert!(transport.receive().expect("receive").is_none());
        } else {
            std::thread::sleep(Duration::from_millis(10));
            match transport.receive().expect("receive") {
                Some(_) => found += 1,
                None => drop(receive(transport)),
            }
        }
    }
    assert!(rank == 0 || found > 0, "rank {rank} never found a message that had arrived");
}

fn collectives_and_messages_do_not_disturb_each_other(transport: &mut dyn Transport) {
    let (rank, size) = (transport.rank(), transport.size());
    for round in 0..20u8 {
        if rank > 0 {
            transport.send(0, Channel::Control, vec![round]).expect("send");
        }
        let sums = collective(transport, Collective::AllGather(vec![round, rank as u8]));
        assert!(sums.iter().enumerate().all(|(rank, bytes)| *bytes == [round, rank as u8]));
    }
    if rank == 0 {
        let mut next = vec![0u8; size];
        for _ in 0..20 * (size - 1) {
            let incoming = receive(transport);
            assert_eq!(incoming.bytes, [next[incoming.from]]);
            next[incoming.from] += 1;
        }
    }
}
