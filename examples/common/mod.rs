//! What the examples share: arguments that are parsed on every rank and answered once, numbers as people write them,
//! and output that may be cut short by `| head`.
#![allow(dead_code, reason = "each example uses a part of this")]

use std::error::Error;
use std::io::{self, BufWriter, ErrorKind, Write};

use rankfold::World;

/// The arguments, or `None` after `--help` and `--version`, which rank 0 answers for all.
pub fn arguments<A: clap::Parser>(world: &World) -> Result<Option<A>, Box<dyn Error>> {
    match A::try_parse() {
        Ok(arguments) => Ok(Some(arguments)),
        Err(refusal) if refusal.use_stderr() => {
            let message = refusal.to_string();
            Err(message.strip_prefix("error: ").unwrap_or(&message).trim_end().into())
        }
        Err(answer) => {
            if world.is_root() {
                // Not `answer.print()`, which takes the pseudo-terminal that mpirun gives a rank for one that shows colours.
                print(|out| write!(out, "{answer}"))?;
            }
            Ok(None)
        }
    }
}

/// Reads a whole number: `1000000`, `1_000_000`, `1e6`, `2.5e6`, `10k`, `10M`, `10G`, `10T` (powers of ten).
pub fn number(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase().replace('_', "");
    let (digits, power) = match lower.split_once('e') {
        Some((digits, power)) => (digits, power.parse::<u32>().map_err(|_| format!("`{power}` is no power of ten"))?),
        None => match lower.find(['k', 'm', 'g', 't']) {
            Some(at) if at + 1 == lower.len() => (&lower[..at], 3 + 3 * "kmgt".find(&lower[at..]).unwrap_or(0) as u32),
            _ => (lower.as_str(), 0),
        },
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a whole number such as 1000000, 1_000_000, 1e6 or 1M".to_owned());
    }
    let zeros = power.checked_sub(fraction.len() as u32).ok_or("not a whole number")?;
    let value = digits.parse::<u64>().ok().zip(10u64.checked_pow(zeros));
    value.and_then(|(value, scale)| value.checked_mul(scale)).ok_or_else(|| format!("more than {}", u64::MAX))
}

/// Writes the result to standard output. A reader that has seen enough, as `head`, is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
