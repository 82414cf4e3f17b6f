//! What Slurm tells a job: how much of its time is left.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an answer is waited for: a controller that is busy must not hold up the job.
const ANSWER: Duration = Duration::from_secs(10);

/// The time until Slurm ends this job. Nothing outside of Slurm, or without a limit, or if nobody can tell.
pub(crate) fn time_left() -> Option<Duration> {
    let job = std::env::var("SLURM_JOB_ID").ok()?;
    // Newer versions tell the end, in seconds since 1970; the others are asked.
    if let Some(end) = std::env::var("SLURM_JOB_END_TIME").ok().and_then(|end| end.parse().ok()) {
        let end = UNIX_EPOCH + Duration::from_secs(end);
        return Some(end.duration_since(SystemTime::now()).unwrap_or_default());
    }
    // The number of a task of an array may stand for all of them.
    let array = std::env::var("SLURM_ARRAY_JOB_ID").ok().zip(std::env::var("SLURM_ARRAY_TASK_ID").ok());
    let job = array.map_or(job, |(job, task)| format!("{job}_{task}"));
    let answer = ask(Command::new("squeue").args(["--noheader", "--jobs", &job, "--format", "%L"])).unwrap_or_default();
    let lines = || answer.lines().map(str::trim);
    if lines().all(|line| parse(line).is_none() && line != "UNLIMITED") {
        eprintln!("rankfold: warning: squeue does not tell when this job ends; set RANKFOLD_DEADLINE to end in time");
    }
    // A heterogeneous job has a line for each of its parts.
    lines().filter_map(parse).min()
}

/// What a command prints, if it ends well and in time.
fn ask(command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let begun = Instant::now();
    loop {
        match child.try_wait().ok()? {
            Some(status) => {
                let mut answer = String::new();
                std::io::Read::read_to_string(&mut child.stdout.take()?, &mut answer).ok()?;
                return Some(answer).filter(|_| status.success());
            }
            None if begun.elapsed() > ANSWER => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A length as `squeue` writes it: `[days-]hours:minutes:seconds`, or less of it.
fn parse(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let mut seconds = days.parse::<u64>().ok()?.checked_mul(24)?;
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, rest] = match parts[..] {
        [hours, minutes, seconds] => [hours, minutes, seconds],
        [minutes, seconds] => [0, minutes, seconds],
        _ => return None,
    };
    seconds = (seconds + hours) * 3600 + minutes * 60 + rest;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_squeue_writes_them() {
        let seconds = |text| parse(text).map(|length| length.as_secs());
        assert_eq!(seconds("1:05"), Some(65));
        assert_eq!(seconds("2:00:00"), Some(7200));
        assert_eq!(seconds("1-00:00:01"), Some(86_401));
        assert_eq!(seconds("0:00"), Some(0));
        for text in ["UNLIMITED", "INVALID", "", "N/A", "5"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_command_that_fails_or_is_not_there_tells_nothing() {
        assert_eq!(ask(&mut Command::new("false")), None);
        assert_eq!(ask(&mut Command::new("no-such-command")), None);
        assert_eq!(ask(Command::new("echo").arg("1:05")).as_deref(), Some("1:05\n"));
    }
}
