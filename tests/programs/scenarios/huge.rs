//! Calls with more bytes than MPI's counts can tell.

use rankfold::{World, data};
use serde_bytes::ByteBuf;

use super::Outcome;

/// The bytes of an item or partial.
const LENGTH: usize = (1 << 31) + (1 << 20) + 7;

pub fn play(world: &World, scenario: &str) -> Option<Outcome> {
    match scenario {
        "huge-batch" => Some(batch(world)),
        "huge-partial" => Some(partial(world)),
        "huge-part" => Some(part(world)),
        _ => None,
    }
}

const LOOKED_AT: [usize; 4] = [1, 4099, 4099 * 200, LENGTH - 1];

/// Bytes that show where they come from, and a lost end.
fn bytes(item: u8) -> ByteBuf {
    let mut bytes = vec![item; LENGTH];
    bytes.iter_mut().step_by(4099).zip(1u8..=255).for_each(|(byte, nth)| *byte = nth);
    bytes[LENGTH - 1] = 100 + item;
    ByteBuf::from(bytes)
}

fn looks(bytes: &ByteBuf) -> (usize, [u8; 4]) {
    (bytes.len(), LOOKED_AT.map(|at| bytes[at]))
}

/// An item travels with its batch.
fn batch(world: &World) -> Outcome {
    let items = if world.is_root() { vec![bytes(0), bytes(1)] } else { Vec::new() };
    let seen = world.over(data::from_root(items)).map(|item| looks(&item))?;
    assert_eq!(seen, [0, 1].map(|item| (LENGTH, [item, 2, 201, 100 + item])));
    tell(world);
    Ok(())
}

/// A partial goes to its buddy, and the result to all; with a journal, into its files and back.
fn partial(world: &World) -> Outcome {
    let later = |mut left: ByteBuf, right: ByteBuf| {
        for at in LOOKED_AT {
            left[at] = left[at].wrapping_mul(3).wrapping_add(right[at]);
        }
        left
    };
    let result = world.over(0..2u32).named("huge").map_reduce(
        |item| {
            eprintln!("an item is computed");
            bytes(item as u8)
        },
        later,
    )?;
    let [second, third] = [2u8, 201].map(|byte| byte.wrapping_mul(4));
    assert_eq!(looks(&result), (LENGTH, [1, second, third, 100u8.wrapping_mul(3).wrapping_add(101)]));
    tell(world);
    Ok(())
}

/// A key's values go to the rank that merges them.
fn part(world: &World) -> Outcome {
    let longer = |left: ByteBuf, right: ByteBuf| if left[1] > right[1] { left } else { right };
    let pairs = world.over(0..2u32);
    let table = pairs.reduce_by_key(|item, pairs| pairs.add(7u8, bytes(item as u8)), longer).collect()?;
    assert_eq!(looks(&table[0].1), (LENGTH, [1, 2, 201, 101]));
    tell(world);
    Ok(())
}

fn tell(world: &World) {
    if world.is_root() {
        println!("all {LENGTH} bytes have come");
    }
}
