//! A program that uses rsmpi itself, and Rankfold in between.

use std::error::Error;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use rankfold::World;

fn main() -> Result<(), Box<dyn Error>> {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled).ok_or("MPI runs already")?;
    let comm = universe.world();
    match scenario.as_str() {
        "in-between" => in_between(&comm)?,
        "two-worlds" => two_worlds(&comm)?,
        "halves" => halves(&comm)?,
        "many-worlds" => many_worlds(&comm)?,
        "mapper-panics" => mapper_panics(&comm)?,
        "init-twice" => assert!(rankfold::init().unwrap_err().to_string().contains("from_communicator")),
        _ => return Err(format!("there is no scenario `{scenario}`").into()),
    }
    if comm.rank() == 0 {
        println!("{scenario}: done");
    }
    Ok(())
}

fn sum(world: &World, items: u64) -> rankfold::Result<u64> {
    world.map_reduce(0..items, |i| i, |a, b| a + b)
}

/// Messages of the program's own are under way during a call, and wait to be received by anybody under any tag.
fn in_between(comm: &SimpleCommunicator) -> rankfold::Result<()> {
    let world = World::from_communicator(comm)?;
    let (rank, size) = (comm.rank(), comm.size());
    let (next, before) = ((rank + 1) % size, (rank + size - 1) % size);
    for round in 0..20i32 {
        let sent = [round * 1000 + rank];
        mpi::request::scope(|scope| {
            let request = comm.process_at_rank(next).immediate_send_with_tag(scope, &sent[..], round % 5);
            assert_eq!(sum(&world, 1000).expect("a sum"), 499_500);
            let (received, status) = comm.any_process().receive::<i32>();
            assert_eq!((received, status.source_rank(), status.tag()), (round * 1000 + before, before, round % 5));
            request.wait();
        });
        let mut total = 0u64;
        comm.all_reduce_into(&1u64, &mut total, mpi::collective::SystemOperation::sum());
        assert_eq!(total, size as u64);
        assert!(comm.any_process().immediate_probe().is_none(), "a message that nobody sent");
        counted_once(&world, comm)?;
    }
    let own = world.communicator().expect("the ranks are MPI's");
    own.barrier();
    assert!(own.any_process().immediate_probe().is_none(), "a message of Rankfold's on the user's communicator");
    Ok(())
}

/// Every item goes through the function exactly once, on one rank of all.
fn counted_once(world: &World, comm: &SimpleCommunicator) -> rankfold::Result<()> {
    let counters: Vec<AtomicU64> = (0..1000).map(|_| 0.into()).collect();
    world.over(0..1000usize).for_each(|i| counters[i].store(counters[i].load(Relaxed) + 1, Relaxed))?;
    let mine: Vec<u64> = counters.into_iter().map(AtomicU64::into_inner).collect();
    let mut all = vec![0u64; 1000];
    comm.all_reduce_into(&mine[..], &mut all[..], mpi::collective::SystemOperation::sum());
    assert_eq!(all, [1; 1000]);
    Ok(())
}

/// Two worlds over the same ranks, used in turn and dropped in either order.
fn two_worlds(comm: &SimpleCommunicator) -> rankfold::Result<()> {
    let (one, two) = (World::from_communicator(comm)?, World::from_communicator(comm)?);
    for items in 1..50 {
        assert_eq!((sum(&one, items)?, sum(&two, items + 1)?), (items * (items - 1) / 2, items * (items + 1) / 2));
    }
    let three = World::from_communicator(two.communicator().expect("the ranks are MPI's"))?;
    drop(one);
    drop(two);
    assert_eq!(sum(&three, 10)?, 45);
    Ok(())
}

/// The even and the odd ranks work apart from each other.
fn halves(comm: &SimpleCommunicator) -> rankfold::Result<()> {
    let half = comm.split_by_color(mpi::topology::Color::with_value(comm.rank() % 2)).expect("a colour was given");
    let (world, all) = (World::from_communicator(&half)?, World::from_communicator(comm)?);
    for items in 1..(50 * (1 + comm.rank() as u64 % 2)) {
        assert_eq!(sum(&world, items)?, items * (items - 1) / 2);
    }
    assert_eq!(sum(&all, 10)?, 45);
    assert_eq!((world.size() as i32, all.size() as i32), (half.size(), comm.size()));
    Ok(())
}

/// A world for each step of a long program: nothing of it may be left behind.
fn many_worlds(comm: &SimpleCommunicator) -> rankfold::Result<()> {
    for items in 1..100u64 {
        assert_eq!(sum(&World::from_communicator(comm)?, items % 10 + 1)?, (items % 10 + 1) * (items % 10) / 2);
    }
    Ok(())
}

fn mapper_panics(comm: &SimpleCommunicator) -> rankfold::Result<()> {
    let world = World::from_communicator(comm)?;
    world.over(0..1000u64).named("energy").for_each(|i| assert!(i != 700, "the mesh is torn"))
}
