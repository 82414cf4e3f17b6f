//! Bank accounts as actors: each lives on some rank, keeps its balance there, and does what it is asked in that order.
//!
//! ```text
//! $ cargo run --release --example actors                            # with --no-default-features: no MPI
//! $ cargo build --release --examples && mpirun -n 4 target/release/examples/actors --accounts 100 --transfers 10k
//! ```
//!
//! A transfer is two calls: what one account has given is what the other takes, and goes from rank to rank by itself.
//! Nobody waits in between, since calls of an actor run in the order of their submission; so the balances are the same for
//! every number of ranks. Where the accounts live goes to standard error.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rankfold::rand::RngExt;
use rankfold::{Actor, Pool, Result, World};

mod common;

/// Move money between accounts that live on all ranks, and check that none is lost.
#[derive(Parser)]
struct Args {
    /// How many accounts
    #[arg(long, default_value = "6", value_parser = common::number)]
    accounts: u64,
    /// How many transfers
    #[arg(long, default_value = "1000", value_parser = common::number)]
    transfers: u64,
    /// Who gives how much to whom
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What each account begins with.
const OPENING: u64 = 100_000;

/// The state of an actor. It stays where it was made, so it need not be serializable.
struct Account {
    cents: u64,
}

impl Account {
    fn open(cents: u64) -> Self {
        Self { cents }
    }

    /// Gives as much as there is of what is asked for, and tells how much that was.
    fn give(&mut self, cents: u64) -> u64 {
        let given = cents.min(self.cents);
        self.cents -= given;
        given
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what another task has made arrives as a reference")]
    fn take(&mut self, cents: &u64) {
        self.cents += cents;
    }

    /// As `give`, for those who would rather panic than get less.
    fn give_all(&mut self, cents: u64) {
        self.cents = self.cents.checked_sub(cents).expect("there is not so much in the account");
    }

    fn balance(&mut self) -> u64 {
        self.cents
    }
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(args) = common::arguments::<Args>(world)? else { return Ok(()) };
    if args.accounts == 0 {
        return Err("no accounts: nobody has anything to give".into());
    }
    let done = world.pool(|pool| transfer(pool, &args).and_then(|()| begin_anew(pool)))?;
    done.unwrap_or(Ok(())).map_err(|error| error as Box<dyn Error>)
}

fn transfer(pool: &Pool, args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let accounts: Vec<Actor<Account>> =
        (0..args.accounts).map(|_| pool.actor(Account::open, (OPENING,))).collect::<Result<_>>()?;
    let mut expected = vec![OPENING; accounts.len()];
    let mut dice = rankfold::rng(args.seed, 0);
    for _ in 0..args.transfers {
        let [from, to] = [(); 2].map(|()| dice.random_range(0..accounts.len()));
        let cents = dice.random_range(0..OPENING / 2);
        // A remote as an argument: `take` runs when `give` has, with what that has returned.
        let given = accounts[from].call(Account::give, (cents,))?;
        accounts[to].call(Account::take, (&given,))?.detach(); // for its effect: there is no value to wait for

        // The same on paper.
        let given = cents.min(expected[from]);
        expected[from] -= given;
        expected[to] += given;
    }

    // Behind all of that: each account's calls wait for their turn.
    let asked = accounts.iter().map(|account| account.call(Account::balance, ())).collect::<Result<Vec<_>>>()?;
    let mut balances = Vec::new();
    for (number, balance) in asked.into_iter().enumerate() {
        balance.wait()?;
        let rank = balance.timing().map_or(0, |timing| timing.rank);
        eprintln!("account {number} lives on rank {rank} ({})", pool.host(rank).unwrap_or("?"));
        balances.push(balance.get()?);
    }
    if balances != expected {
        return Err(format!("the accounts have {balances:?}, and on paper it is {expected:?}").into());
    }
    common::print(|out| {
        let total: u64 = balances.iter().sum();
        let of = |number: usize| format!("account {number}: {:>10}", money(balances[number]));
        (0..balances.len()).try_for_each(|number| writeln!(out, "{}", of(number)))?;
        writeln!(out, "total:     {:>10}, as before {} transfers", money(total), args.transfers)
    })?;
    Ok(())
}

/// A call that panics ends an actor; this one may begin anew, once, with what it was opened with.
fn begin_anew(pool: &Pool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let account = pool.task().named("the last account").restarts(1).actor(Account::open, (OPENING,))?;
    let before = account.call(Account::give, (1000,))?;
    let too_much = account.call(Account::give_all, (2 * OPENING,))?;
    let after = account.call(Account::balance, ())?; // runs on the new state

    let (before, too_much, after) = (before.get()?, too_much.get(), after.get()?);
    let Err(error) = too_much else { return Err("an account gave more than it had".into()) };
    if before != 1000 || after != OPENING {
        return Err(format!("the last account gave {before}, and has {after} after its new beginning").into());
    }
    eprintln!("{}", error.to_string().lines().next().unwrap_or_default()); // the stack, if there is one, comes after that
    common::print(|out| writeln!(out, "an account that panicked began anew with {}", money(after)))?;
    Ok(())
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
