//! Counting words with rayon alone, on one machine: `bench_words THREADS TOP FILE` prints what the example
//! `word_count --top TOP FILE` prints.
//!
//! The kernel is that of `examples/word_count.rs`; the benchmark refuses to run where the two texts differ. Around it is
//! what one would write for a file of any size: pieces of 1 MiB that end with a line, each read by the thread that counts
//! it, one map per thread as far as rayon allows, with `String`s for keys, where the example has a type for short words.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

const PIECE: u64 = 1 << 20;

type Counts = FxHashMap<String, u64>;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let threads = arguments[1].parse().expect("a number of threads");
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("threads start");

    let top: usize = arguments[2].parse().expect("how many words to print, 0 for all");

    let start = Instant::now();
    let file = File::open(&arguments[3])?;
    let length = file.metadata()?.len();
    let counted = (0..length.div_ceil(PIECE)).into_par_iter().map(|piece| piece * PIECE).try_fold(
        || (Counts::default(), Vec::new()),
        |(counts, mut buffer), at| {
            let text = read_lines(&file, at, length, &mut buffer)?;
            std::io::Result::Ok((count_words(counts, text), buffer))
        },
    );
    let counts =
        counted.map(|counted| counted.map(|(counts, _)| counts)).try_reduce(Counts::default, |a, b| Ok(merge(a, b)))?;
    eprintln!("seconds={}", start.elapsed().as_secs_f64());

    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by(|(word, count), (other_word, other)| other.cmp(count).then_with(|| word.cmp(other_word)));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let top = if top == 0 { counts.len() } else { top.min(counts.len()) };
    counts[..top].iter().try_for_each(|(word, count)| writeln!(out, "{count}\t{word}"))?;
    out.flush()
}

/// The lines that start in the piece at `at`.
fn read_lines<'b>(file: &File, at: u64, length: u64, buffer: &'b mut Vec<u8>) -> std::io::Result<&'b str> {
    // A line starts at `at` if the byte before ends one.
    let from = at.saturating_sub(1);
    let end = (at + PIECE).min(length);
    buffer.resize((end - from) as usize, 0);
    file.read_exact_at(buffer, from)?;
    let newline = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n');
    let start = match newline(buffer) {
        _ if at == 0 => 0,
        Some(position) if from + (position as u64) < end - 1 || end == length => position + 1,
        _ => return Ok(""),
    };
    let mut to = end;
    while to < length && buffer.last() != Some(&b'\n') {
        let old = buffer.len();
        let more = (length - to).min(4096);
        buffer.resize(old + more as usize, 0);
        file.read_exact_at(&mut buffer[old..], to)?;
        to += more;
        if let Some(position) = newline(&buffer[old..]) {
            buffer.truncate(old + position + 1);
        }
    }
    Ok(std::str::from_utf8(&buffer[start..]).expect("the corpus is UTF-8"))
}

fn count_words(mut counts: Counts, text: &str) -> Counts {
    // A word that is known costs a look-up and no allocation.
    let mut add = |word: &str| match counts.get_mut(word) {
        Some(count) => *count += 1,
        None => drop(counts.insert(word.to_owned(), 1)),
    };
    text.lines().for_each(|line| for_each_word(line, &mut add));
    counts
}

fn merge(left: Counts, right: Counts) -> Counts {
    let (mut larger, smaller) = if left.len() < right.len() { (right, left) } else { (left, right) };
    for (word, count) in smaller {
        *larger.entry(word).or_insert(0) += count;
    }
    larger
}

// From here on as in examples/word_count.rs.

fn for_each_word(line: &str, mut f: impl FnMut(&str)) {
    // Most words are in lower case already, and cost no allocation.
    let mut lower = String::new();
    for word in line.split(|letter: char| !letter.is_alphabetic()) {
        if word.is_empty() {
            continue;
        }
        if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            f(word);
        } else if word.is_ascii() {
            lower.clear();
            lower.push_str(word);
            lower.make_ascii_lowercase();
            f(&lower);
        } else {
            f(&word.to_lowercase());
        }
    }
}
