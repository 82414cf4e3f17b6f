//! Batches computed by any number of threads, cut short, and in pieces.

use super::*;
use crate::kernel::FoldBatches;

/// Adds floating-point numbers of very different size: any other order of additions shows in the bits.
struct Sum;

impl Kernel<Range<u64>> for Sum {
    type Partial = f64;
    const RUNS: Runs = Runs::Leaf;

    fn fold(&self, items: Range<u64>, at: &At<'_>) -> Option<f64> {
        Kernel::<Range<u64>>::fold_some(self, items, at)
    }

    fn fold_some(&self, items: impl Iterator<Item = u64>, _at: &At<'_>) -> Option<f64> {
        items.map(|item| 1.0 / (item as f64 + 0.1)).reduce(|a, b| a + b)
    }

    fn combine(&self, left: f64, right: f64) -> f64 {
        left + right
    }
}

fn sum(items: u64, leaf: u64, threads: usize, longest: u64) -> u64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let place = Place { rank: 0, host: "here".into() };
    let (source, leaves) = (0..items, Leaves::new(items, leaf));
    let computation = Computation::new("sum", &place, Some(leaves), threads, &source, &Sum);
    let mut at = 0;
    while at < leaves.count() {
        let batch = Extent::at_front(at, leaves.count(), longest);
        let (cancelled, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        let signals = Signals { cancelled: &cancelled, cut: &cut };
        pool.install(|| computation.compute(batch, &[], signals)).unwrap();
        at = batch.end();
    }
    computation.take_segments().complete().unwrap().unwrap().to_bits()
}

#[test]
fn a_sum_has_the_same_bits_for_any_batch_length_and_number_of_threads() {
    let reference = sum(10_007, 4, 1, 1 << 20);
    for threads in [1, 2, 5] {
        for longest in [1, 3, 64, 1 << 20] {
            assert_eq!(sum(10_007, 4, threads, longest), reference, "{threads} threads, batches of {longest}");
        }
    }
}

/// Is read in pieces of three.
struct Crumbs(Range<u64>);

impl Source for Crumbs {
    type Item = u64;
    type Batch = Range<u64>;
    type Parcel = ();

    fn kind(&self) -> &'static str {
        "crumbs"
    }

    fn len(&self) -> Result<u64, SourceError> {
        self.0.len()
    }

    fn piece(&self) -> u64 {
        3
    }

    fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(&self, _parcel: &(), range: Range<u64>) -> Result<Range<u64>, SourceError> {
        Ok(range)
    }
}

#[test]
fn one_accumulator_serves_for_a_batch_that_is_read_piece_by_piece() {
    let (place, source, leaves) = (Place { rank: 0, host: "here".into() }, Crumbs(0..30), Leaves::new(30, 4));
    let (begun, cancelled, cut) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let init = || begun.fetch_add(1, Ordering::Relaxed) as usize;
    let step = |pieces: usize, items: Range<u64>| pieces + usize::from((1..=3).contains(&(items.end - items.start)));
    let kernel = FoldBatches { init, step, combiner: |left: usize, right: usize| left + right };
    let computation = Computation::new("crumbs", &place, Some(leaves), 1, &source, &kernel);
    for batch in [Extent::new(0, 4), Extent::new(4, 4)] {
        computation.compute(batch, &[], Signals { cancelled: &cancelled, cut: &cut }).unwrap();
    }
    // 16 items in 6 pieces, 14 in 5; and what `init` has given: 0 and 1.
    assert_eq!(computation.take_segments().complete(), Ok(Some(6 + 5 + 1)));
    assert_eq!(begun.into_inner(), 2);
}

/// Takes its time to combine.
struct Slow;

impl Kernel<Range<u64>> for Slow {
    type Partial = f64;
    const RUNS: Runs = Runs::Leaf;

    fn fold(&self, items: Range<u64>, at: &At<'_>) -> Option<f64> {
        Sum.fold(items, at)
    }

    fn fold_some(&self, items: impl Iterator<Item = u64>, at: &At<'_>) -> Option<f64> {
        Kernel::<Range<u64>>::fold_some(&Sum, items, at)
    }

    fn combine(&self, left: f64, right: f64) -> f64 {
        std::thread::sleep(Duration::from_millis(3));
        left + right
    }
}

#[test]
fn a_snapshot_holds_all_that_the_last_one_held_also_while_partials_are_combined() {
    let (place, source, leaves) = (Place { rank: 0, host: "here".into() }, 0..64u64, Leaves::new(64, 1));
    let computation = Computation::new("sum", &place, Some(leaves), 1, &source, &Slow);
    let mut before = Coverage::default();
    std::thread::scope(|scope| {
        let computing = scope.spawn(|| {
            for leaf in 0..64 {
                let (cancelled, cut) = (AtomicBool::new(false), AtomicBool::new(false));
                let signals = Signals { cancelled: &cancelled, cut: &cut };
                computation.compute(Extent::new(leaf, 1), &[], signals).unwrap();
            }
        });
        while !computing.is_finished() {
            let mut now = Coverage::default();
            computation.snapshot().unwrap().iter().for_each(|(extent, _)| drop(now.insert(*extent)));
            let lost: Vec<Extent> = before.runs().filter(|run| !now.contains(*run)).collect();
            assert!(lost.is_empty(), "{lost:?} was in the last snapshot");
            before = now;
        }
    });
    let all = computation.snapshot().unwrap();
    assert_eq!(all.iter().map(|(extent, _)| *extent).collect::<Vec<_>>(), [Extent::new(0, 64)]);
}

/// Cuts its own batch when it comes to a certain item.
struct Cutting<'a> {
    at: u64,
    cut: &'a AtomicBool,
}

impl Kernel<Range<u64>> for Cutting<'_> {
    type Partial = f64;
    const RUNS: Runs = Runs::Leaf;

    fn fold(&self, items: Range<u64>, at: &At<'_>) -> Option<f64> {
        self.cut.fetch_or(items.contains(&self.at), Ordering::Relaxed);
        Sum.fold(items, at)
    }

    fn fold_some(&self, items: impl Iterator<Item = u64>, at: &At<'_>) -> Option<f64> {
        Kernel::<Range<u64>>::fold_some(&Sum, items, at)
    }

    fn combine(&self, left: f64, right: f64) -> f64 {
        left + right
    }
}

#[test]
fn a_batch_that_is_cut_short_keeps_what_is_done_and_names_the_rest() {
    let place = Place { rank: 0, host: "here".into() };
    let (source, leaves) = (0..256u64, Leaves::new(256, 4));
    let reference = sum(256, 4, 1, 1 << 20);
    for threads in [1, 3] {
        for at in [0, 1, 100, 255] {
            let (cancelled, cut) = (AtomicBool::new(false), AtomicBool::new(false));
            let kernel = Cutting { at, cut: &cut };
            let computation = Computation::new("sum", &place, Some(leaves), threads, &source, &kernel);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let signals = Signals { cancelled: &cancelled, cut: &cut };
            let mut left = vec![Extent::new(0, 64)];
            let mut cuts = 0;
            while let Some(batch) = left.pop() {
                cut.store(false, Ordering::Relaxed);
                let computed = pool.install(|| computation.compute(batch, &[], signals)).unwrap();
                cuts += u32::from(!computed.rest.is_empty());
                assert!(computed.rest.iter().all(|part| batch.contains(*part) && *part != batch));
                left.extend(computed.rest);
            }
            // One thread alone has begun nothing beyond the item; the last one leaves no rest.
            assert!(threads > 1 || (cuts > 0) == (at < 252), "{cuts} cuts at {at}");
            assert_eq!(computation.take_segments().complete().unwrap().unwrap().to_bits(), reference);
        }
    }
}
