//! Sorts a file of records of 100 bytes by their first 10, as the sort benchmark has them (sortbenchmark.org).
//!
//! ```text
//! $ cargo build --release --examples
//! $ mpirun -n 4 target/release/examples/sort_records --make 1e6 numbers.bin
//! $ mpirun -n 4 target/release/examples/sort_records numbers.bin sorted.bin
//! sorted 1000000 records, checksum 0007a1a8cac46ada
//! ```
//!
//! The checksum is the sum of all records' checksums, which does not depend on their order: it is taken of what is read, and
//! again of what was written, with a look at the order. All ranks together need memory for several times the file; or what
//! they may have, and up to 2.4 times the file on their disks (each record twice, with its key and number):
//!
//! ```text
//! $ RANKFOLD_MEMORY=512MiB mpirun -n 4 target/release/examples/sort_records numbers.bin sorted.bin
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rankfold::data::Record;
use rankfold::rand::RngExt;
use rankfold::{World, data, op};

mod common;

/// Sort a file of 100-byte records by their first 10 bytes; records with equal keys keep their order.
#[derive(Parser)]
struct Args {
    /// Write so many random records to FILE, in place of sorting it
    #[arg(long, value_name = "RECORDS", value_parser = common::number, conflicts_with = "sorted")]
    make: Option<u64>,
    /// Give half of the records that are made the same key
    #[arg(long, requires = "make")]
    skewed: bool,
    /// The file of records
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the sorted records go
    #[arg(value_name = "SORTED", required_unless_present = "make")]
    sorted: Option<PathBuf>,
}

const SIZE: usize = 100;
const KEY: usize = 10;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { make, skewed, file, sorted }) = common::arguments(world)? else { return Ok(()) };
    if let Some(records) = make {
        let made = world.over(0..records).named("make").shards(|number| random_record(number, skewed))?;
        made.write(&file, |record, out| out.extend_from_slice(&record[..]))?;
        if world.is_root() {
            common::print(|out| writeln!(out, "made {records} records"))?;
        }
        return Ok(());
    }
    let sorted = sorted.expect("required unless records are made");
    let records = || data::records::<SIZE, _>([&file]);
    let before = checksum(world, records())?;
    let key = |record: &[u8; SIZE]| <[u8; KEY]>::try_from(&record[..KEY]).expect("a record has a key");
    let in_order = world.over(records()).sort_by_key(|record| (key(&record), record))?;
    let (count, most) = (in_order.len(), world.all_reduce(&in_order.len_here(), op::max)?);
    in_order.write(&sorted, |record, out| out.extend_from_slice(&record[..]))?;
    drop(in_order);

    let written = data::records::<SIZE, _>([&sorted]);
    let after = checksum(world, written)?;
    let written = data::records::<SIZE, _>([&sorted]);
    let order = world.over(written).named("order").identity(None).map_reduce(
        |record| Some((record, record, true)),
        |left, right| match (left, right) {
            (Some((first, last, left)), Some((next, end, right))) => {
                Some((first, end, left && right && last[..KEY] <= next[..KEY]))
            }
            (left, right) => left.or(right),
        },
    )?;
    if before != after || !order.is_none_or(|(.., is_sorted)| is_sorted) {
        return Err(
            format!("{} is not what it should be: checksum {after:016x} for {before:016x}", sorted.display()).into()
        );
    }
    if world.is_root() {
        common::print(|out| writeln!(out, "sorted {count} records, checksum {after:016x}"))?;
        let mean = (count as f64 / world.size() as f64).max(1.0);
        eprintln!("the busiest of {} ranks has had {:.2} times the mean", world.size(), most as f64 / mean);
    }
    Ok(())
}

/// A sum over records that does not depend on their order.
fn checksum(world: &World, records: data::Records<SIZE>) -> rankfold::Result<u64> {
    let sum = |record: Record<SIZE>| u64::from(crc32fast::hash(&record[..]));
    world.over(records).named("checksum").identity(0).map_reduce(sum, u64::wrapping_add)
}

fn random_record(number: u64, skewed: bool) -> Record<SIZE> {
    let mut rng = rankfold::rng(20_261_127, number);
    let mut record = [b' '; SIZE];
    let is_hot = skewed && rng.random_bool(0.5);
    for byte in &mut record[..KEY] {
        *byte = if is_hot { b'h' } else { rng.random_range(b'!'..=b'~') };
    }
    record[KEY..KEY + 22].copy_from_slice(format!("{number:22}").as_bytes());
    record[SIZE - 1] = b'\n';
    Record(record)
}
