//! Scenes with few workers.

use super::*;

fn tasks(threads: &[u32]) -> Tasks<&'static str> {
    let places: Vec<Place> = (0..threads.len()).map(|rank| Place { rank, host: "h".into() }).collect();
    let mut tasks = Tasks::new(&places, threads, &[]);
    (0..threads.len()).for_each(|worker| tasks.handle(Event::Ready { worker }));
    tasks
}

fn submit(tasks: &mut Tasks<&'static str>, task: TaskId, needs: &[TaskId]) {
    let order = Order { needs: needs.into(), ..Order::default() };
    tasks.handle(Event::Submitted { task, order: order.into(), payload: Box::default() });
}

fn end_large(tasks: &mut Tasks<&'static str>, worker: usize, task: TaskId, bytes: u64) {
    tasks.handle(Event::Ended { worker, task, ending: Ending::Large { bytes, seconds: 0.001 } });
}

/// All actions, in short.
fn actions(tasks: &mut Tasks<&'static str>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(action) = tasks.poll_action() {
        all.push(match action {
            Action::Assign { worker, task, inputs } => format!("{task} on {worker} with {inputs:?}"),
            Action::Settle { task, failed } => {
                format!("{task} settled{}", if failed.is_some() { ": failed" } else { "" })
            }
            Action::Bring { task, from, .. } => format!("bring {task} from {from}"),
            Action::Free { worker, task } => format!("free {task} on {worker}"),
            Action::Recall { worker, tasks } => format!("recall {tasks:?} from {worker}"),
            other => format!("{other:?}"),
        });
    }
    all
}

#[test]
fn a_chain_on_a_large_value_stays_where_the_value_is() {
    let mut tasks = tasks(&[1, 1, 1]);
    submit(&mut tasks, 0, &[]);
    let first = actions(&mut tasks);
    let worker: usize = first[0].split(' ').nth(2).and_then(|rank| rank.parse().ok()).unwrap();
    end_large(&mut tasks, worker, 0, 100 << 20);
    for task in 1..1000 {
        submit(&mut tasks, task, &[task - 1]);
        tasks.handle(Event::Released { task: task - 1 });
        let done = actions(&mut tasks);
        assert!(done.contains(&format!("{task} on {worker} with [({}, At({worker}))]", task - 1)), "{done:?}");
        end_large(&mut tasks, worker, task, 100 << 20);
    }
    actions(&mut tasks);
    assert_eq!(tasks.known().count(), 1);
}

#[test]
fn a_value_is_freed_everywhere_when_its_last_reader_is_through_and_its_handle_gone() {
    let mut tasks = tasks(&[1, 1]);
    submit(&mut tasks, 0, &[]);
    actions(&mut tasks);
    end_large(&mut tasks, 0, 0, 10_000);
    let order = Order { needs: vec![0], on: Some(1), ..Order::default() };
    tasks.handle(Event::Submitted { task: 1, order: order.into(), payload: Box::default() });
    tasks.handle(Event::Released { task: 0 });
    assert_eq!(actions(&mut tasks), ["0 settled", "1 on 1 with [(0, At(0))]"]);
    tasks.handle(Event::Ended { worker: 1, task: 1, ending: Ending::Small { seconds: 0.1 } });
    assert_eq!(actions(&mut tasks), ["1 settled", "free 0 on 0", "free 0 on 1"]);
}

#[test]
fn what_waits_behind_a_long_task_goes_to_whoever_is_idle() {
    let mut tasks = tasks(&[1, 1]);
    (0..4).for_each(|task| submit(&mut tasks, task, &[]));
    assert_eq!(actions(&mut tasks).len(), 4);
    // One worker ends both of its tasks, the other sits in its first.
    for task in [1, 3] {
        tasks.handle(Event::Ended { worker: 1, task, ending: Ending::Small { seconds: 0.001 } });
    }
    assert_eq!(actions(&mut tasks), ["1 settled", "3 settled", "recall [2] from 0"]);
    tasks.handle(Event::Returned { worker: 0, tasks: vec![2] });
    assert_eq!(actions(&mut tasks), ["2 on 1 with []"]);
    // Nothing is asked back twice in vain.
    tasks.handle(Event::Ended { worker: 1, task: 2, ending: Ending::Small { seconds: 0.001 } });
    assert_eq!(actions(&mut tasks), ["2 settled"]);
}

#[test]
fn priority_and_then_order_of_submission_decide_who_is_first() {
    let mut tasks = tasks(&[1]);
    (0..2).for_each(|task| submit(&mut tasks, task, &[]));
    actions(&mut tasks);
    submit(&mut tasks, 2, &[]);
    let order = Order { priority: 1, ..Order::default() };
    tasks.handle(Event::Submitted { task: 3, order: order.into(), payload: Box::default() });
    tasks.handle(Event::Ended { worker: 0, task: 0, ending: Ending::Small { seconds: 1.0 } });
    assert_eq!(actions(&mut tasks), ["0 settled", "3 on 0 with []"]);
}

#[test]
fn short_tasks_travel_many_at_a_time_and_long_ones_two() {
    let mut tasks = tasks(&[1]);
    (0..10_000).for_each(|task| submit(&mut tasks, task, &[]));
    assert_eq!(actions(&mut tasks).len(), 2);
    for task in 0..2 {
        tasks.handle(Event::Ended { worker: 0, task, ending: Ending::Small { seconds: 1e-6 } });
    }
    assert!(actions(&mut tasks).len() > 1000);
}

fn lose(tasks: &mut Tasks<&'static str>, worker: usize) {
    let place = Place { rank: worker, host: "h".into() };
    let error = ErrorKind::Silent { place: place.clone(), seconds: 30, waiting: place }.into();
    tasks.handle(Event::Lost { worker, error });
}

#[test]
fn a_task_is_given_up_with_the_third_rank_that_is_lost_with_it_however_often_it_is_tried_again() {
    let mut tasks = tasks(&[1; 6]);
    // Rank 0 is never lost.
    let elsewhere = Demand { among: Some((1..6).collect()), ..Demand::default() };
    let order = Order { retries: 5, demand: elsewhere, ..Order::default() };
    tasks.handle(Event::Submitted { task: 0, order: order.into(), payload: Box::default() });
    let holder = |tasks: &mut Tasks<&'static str>| {
        let all = actions(tasks);
        (1..6).find(|worker| all.contains(&format!("0 on {worker} with []")))
    };
    let panicked = |worker: usize| {
        let (place, text) = (Place { rank: worker, host: "h".into() }, String::new);
        let (call, item, message, location) = (text(), text(), text(), text());
        let (role, backtrace, attempts) = (crate::error::Role::Task, text(), 1);
        let kind = ErrorKind::Panicked { call, role, place, item, message, location, backtrace, attempts };
        Ending::Failed { error: kind.into() }
    };
    // Panics are another matter.
    for _ in 0..4 {
        let worker = holder(&mut tasks).expect("it is tried again");
        tasks.handle(Event::Ended { worker, task: 0, ending: panicked(worker) });
    }
    for _ in 0..2 {
        let worker = holder(&mut tasks).expect("it is given to another rank");
        lose(&mut tasks, worker);
    }
    let third = holder(&mut tasks).expect("it is given to a third");
    lose(&mut tasks, third);
    assert_eq!((holder(&mut tasks), tasks.open), (None, 0));
}

#[test]
fn who_waits_for_a_value_that_is_lost_is_told_whether_he_asked_before_or_after() {
    for asks_before in [true, false] {
        let mut tasks = tasks(&[1, 1]);
        let order = Order { on: Some(1), ..Order::default() };
        tasks.handle(Event::Submitted { task: 0, order: order.into(), payload: Box::default() });
        actions(&mut tasks);
        end_large(&mut tasks, 1, 0, 10_000);
        if asks_before {
            tasks.handle(Event::Wanted { task: 0, taken: true });
            assert_eq!(actions(&mut tasks), ["0 settled", "bring 0 from 1"]);
        }
        lose(&mut tasks, 1);
        // Whoever waits asks again when a rank is lost, since another may have a copy.
        tasks.handle(Event::Wanted { task: 0, taken: true });
        assert!(actions(&mut tasks).iter().any(|action| action.starts_with("Unavailable")));
    }
}

#[test]
fn a_detached_task_that_has_failed_already_is_told_of() {
    let mut tasks = tasks(&[1]);
    let order = Order { on: Some(7), ..Order::default() };
    tasks.handle(Event::Submitted { task: 0, order: order.into(), payload: Box::default() });
    tasks.handle(Event::Detached { task: 0 });
    let all = actions(&mut tasks);
    assert!(all.iter().any(|action| action.starts_with("Tell")), "{all:?}");
    assert_eq!(tasks.known().count(), 0);
}

#[test]
fn a_value_that_is_given_can_be_read_at_once_and_counts_where_it_was_read() {
    let mut tasks = tasks(&[1, 1, 1]);
    tasks.handle(Event::Given { task: 0, bytes: Some(100 << 20), payload: Box::default() });
    assert!(tasks.spread(0) && !tasks.spread(7));
    assert_eq!(tasks.holders(0).unwrap(), [0]);
    // It is on its way to everybody: no rank is better than another.
    (1..4).for_each(|task| submit(&mut tasks, task, &[0]));
    let mut all = actions(&mut tasks);
    all.sort();
    assert_eq!(all, [1, 2, 3].map(|task| format!("{task} on {} with [(0, At(0))]", task - 1)));
    end_large(&mut tasks, 2, 3, 10_000);
    assert_eq!(tasks.holders(0).unwrap(), [0, 2]);
    tasks.handle(Event::Released { task: 0 });
    (1..3).for_each(|task| end_large(&mut tasks, task as usize - 1, task, 10_000));
    let freed: Vec<String> = actions(&mut tasks).into_iter().filter(|action| action.starts_with("free 0")).collect();
    assert_eq!(freed.len(), 3);
    assert_eq!(tasks.holders(0).unwrap(), []);
    // A small one goes with the tasks that need it.
    tasks.handle(Event::Given { task: 9, bytes: None, payload: Box::default() });
    submit(&mut tasks, 10, &[9]);
    assert!(actions(&mut tasks).iter().any(|action| action.contains("(9, Small)")) && !tasks.spread(9));
}

#[test]
fn tasks_that_need_what_several_have_go_to_the_one_with_least_to_do_and_ask_different_ones() {
    let mut tasks = tasks(&[1, 1, 1, 1]);
    tasks.handle(Event::Given { task: 0, bytes: Some(1 << 30), payload: Box::default() });
    for worker in [1, 2] {
        let order = Order { needs: vec![0], on: Some(worker), ..Order::default() };
        tasks.handle(Event::Submitted { task: worker as TaskId, order: order.into(), payload: Box::default() });
        actions(&mut tasks);
        tasks.handle(Event::Ended { worker, task: worker as TaskId, ending: Ending::Small { seconds: 0.1 } });
    }
    actions(&mut tasks);
    let mut places = BTreeSet::new();
    for task in 10..13 {
        submit(&mut tasks, task, &[0]);
        places.extend(actions(&mut tasks).into_iter().map(|action| action.split(' ').nth(2).unwrap().to_owned()));
    }
    assert_eq!(places, ["0", "1", "2"].map(str::to_owned).into());
    let order = Order { needs: vec![0], on: Some(3), ..Order::default() };
    tasks.handle(Event::Submitted { task: 20, order: order.into(), payload: Box::default() });
    assert_eq!(actions(&mut tasks), ["20 on 3 with [(0, At(0))]"]);
}

fn submit_actor(tasks: &mut Tasks<&'static str>, task: TaskId, amounts: &str) {
    let demand = Demand { amounts: demand::parse(amounts).unwrap(), ..Demand::default() };
    let order = Order { restarts: Some(0), demand, ..Order::default() };
    tasks.handle(Event::Submitted { task, order: order.into(), payload: Box::default() });
}

/// Hands out what can be, and lets it end at once. Where each task was.
fn run(tasks: &mut Tasks<&'static str>) -> BTreeMap<TaskId, usize> {
    let mut ran = BTreeMap::new();
    while let Some(action) = tasks.poll_action() {
        if let Action::Assign { worker, task, .. } = action {
            ran.insert(task, worker);
            end_large(tasks, worker, task, 0);
        }
    }
    ran
}

#[test]
fn actors_are_spread_however_quickly_they_begin() {
    let mut tasks = tasks(&[1, 1, 1, 1]);
    let mut counts = [0; 4];
    for actor in 0..40 {
        submit_actor(&mut tasks, actor, "");
        run(&mut tasks).values().for_each(|worker| counts[*worker] += 1);
    }
    assert_eq!(counts, [10; 4]);
    // Whoever has lost some gets the next.
    (0..40).step_by(4).for_each(|actor| tasks.handle(Event::Released { task: actor }));
    for actor in 40..50 {
        submit_actor(&mut tasks, actor, "");
        assert_eq!(run(&mut tasks), BTreeMap::from([(actor, 0)]));
    }
}

#[test]
fn who_waits_for_what_actors_have_is_known_with_them() {
    let places: Vec<Place> = (0..2).map(|rank| Place { rank, host: "h".into() }).collect();
    let declared = ["gpu=2", "gpu=1"].map(|text| demand::parse(text).unwrap());
    let mut tasks = Tasks::<&'static str>::new(&places, &[1, 1], &declared);
    (0..2).for_each(|worker| tasks.handle(Event::Ready { worker }));
    submit_actor(&mut tasks, 0, "gpu=2");
    submit_actor(&mut tasks, 1, "gpu=1");
    assert_eq!(run(&mut tasks), BTreeMap::from([(0, 0), (1, 1)]));
    assert_eq!(tasks.starved(), []);
    submit_actor(&mut tasks, 2, "gpu=1");
    assert_eq!((run(&mut tasks).len(), tasks.starved()), (0, vec![(2, "gpu=1".into(), vec![0, 1])]));
    tasks.handle(Event::Released { task: 1 });
    assert_eq!((run(&mut tasks), tasks.starved()), (BTreeMap::from([(2, 1)]), Vec::new()));
    // A task that others keep waiting, not actors, is not starved.
    tasks.handle(Event::Released { task: 0 });
    for task in [3, 4] {
        let order = Order {
            demand: Demand { amounts: demand::parse("gpu=2").unwrap(), ..Demand::default() },
            ..Order::default()
        };
        tasks.handle(Event::Submitted { task, order: order.into(), payload: Box::default() });
    }
    assert!(actions(&mut tasks).contains(&"3 on 0 with []".to_owned()) && tasks.starved().is_empty());
}

#[test]
fn a_rank_has_two_tasks_or_as_many_short_ones_as_last_until_it_is_given_more() {
    for (seconds, most) in [(1e-6, 4096), (1e-3, 20), (0.1, 2)] {
        let mut tasks = tasks(&[1]);
        submit(&mut tasks, 0, &[]);
        assert_eq!(actions(&mut tasks), ["0 on 0 with []"]);
        tasks.handle(Event::Ended { worker: 0, task: 0, ending: Ending::Small { seconds } });
        (1..10_000).for_each(|task| submit(&mut tasks, task, &[]));
        let given = actions(&mut tasks).into_iter().filter(|action| action.contains(" on 0 with ")).count();
        assert_eq!(given, most, "tasks of {seconds} s");
    }
}

#[test]
fn a_call_behind_one_that_waits_takes_no_place_from_what_that_waits_for() {
    let mut tasks = tasks(&[1]);
    submit_actor(&mut tasks, 0, "");
    run(&mut tasks);
    submit(&mut tasks, 1, &[]);
    for call in [2, 3] {
        // Of a kind that nobody knows yet: the rank is given no more than two.
        let order = Order { actor: Some(0), needs: vec![0], kind: 1, ..Order::default() };
        tasks.handle(Event::Submitted { task: call, order: order.into(), payload: Box::default() });
    }
    assert_eq!(actions(&mut tasks), ["1 on 0 with []", "2 on 0 with []"]);
    // It is less urgent than the second call, which has a place in the queue already, but not on the rank.
    let order = Order { parent: Some(2), depth: 1, priority: -1, ..Order::default() };
    tasks.handle(Event::Submitted { task: 4, order: order.into(), payload: Box::default() });
    assert_eq!(actions(&mut tasks), ["4 on 0 with []"]);
    end_large(&mut tasks, 0, 4, 10);
    end_large(&mut tasks, 0, 2, 10);
    assert!(actions(&mut tasks).contains(&"3 on 0 with []".to_owned()));
}

fn submit_calls(tasks: &mut Tasks<&'static str>, actor: TaskId, calls: impl IntoIterator<Item = TaskId>) {
    for call in calls {
        let order = Order { actor: Some(actor), needs: vec![actor], ..Order::default() };
        tasks.handle(Event::Submitted { task: call, order: order.into(), payload: Box::default() });
    }
}

fn panicked() -> Ending {
    let place = Place { rank: 0, host: "h".into() };
    let error = ErrorKind::Panicked {
        call: "a call".into(),
        role: crate::error::Role::Task,
        place,
        item: "the seventh".into(),
        message: "no sevens".into(),
        location: "here".into(),
        backtrace: String::new(),
        attempts: 1,
    };
    Ending::Failed { error: error.into() }
}

#[test]
fn the_panic_that_ends_an_actor_is_told_although_those_behind_it_come_back_first() {
    let mut tasks = tasks(&[8]);
    submit_actor(&mut tasks, 0, "");
    run(&mut tasks);
    submit_calls(&mut tasks, 0, 1..8);
    assert_eq!(actions(&mut tasks).len(), 7);
    for _ in 0..3 {
        tasks.handle(Event::Returned { worker: 0, tasks: (2..8).collect() });
        actions(&mut tasks);
    }
    tasks.handle(Event::Ended { worker: 0, task: 1, ending: panicked() });
    let mut told = BTreeMap::new();
    while let Some(action) = tasks.poll_action() {
        if let Action::Settle { task, failed: Some(error) } = action {
            told.insert(task, error.to_string());
        }
    }
    assert!((1..8).all(|call| told[&call].contains("no sevens")), "{told:?}");
}

#[test]
fn a_state_that_nobody_says_is_dead_is_given_up_when_all_calls_come_back() {
    let mut tasks = tasks(&[8]);
    submit_actor(&mut tasks, 0, "");
    run(&mut tasks);
    submit_calls(&mut tasks, 0, 1..4);
    actions(&mut tasks);
    for _ in 0..3 {
        tasks.handle(Event::Returned { worker: 0, tasks: vec![1] });
        tasks.handle(Event::Returned { worker: 0, tasks: vec![2, 3] });
        actions(&mut tasks);
    }
    assert_eq!(
        (tasks.order(1).is_some(), tasks.open),
        (true, 0),
        "the calls have failed, and are held by their handles"
    );
}

#[test]
fn actors_wait_for_workers_that_come_later_but_not_for_ever() {
    let places: Vec<Place> = (0..4).map(|rank| Place { rank, host: "h".into() }).collect();
    for (comes, expected) in [(4, [2, 2, 2, 2]), (3, [3, 3, 2, 0])] {
        let mut tasks = Tasks::<&'static str>::new(&places, &[1; 4], &[]);
        tasks.await_workers();
        tasks.handle(Event::Ready { worker: 0 });
        (0..8).for_each(|actor| submit_actor(&mut tasks, actor, ""));
        submit(&mut tasks, 100, &[]);
        assert_eq!(run(&mut tasks), BTreeMap::from([(100, 0)]), "others do not wait");
        (1..comes).for_each(|worker| tasks.handle(Event::Ready { worker }));
        if comes < 4 {
            assert_eq!(run(&mut tasks), BTreeMap::new());
            tasks.handle(Event::Begun);
        }
        let mut counts = [0; 4];
        run(&mut tasks).values().for_each(|worker| counts[*worker] += 1);
        assert_eq!(counts, expected);
    }
}

#[test]
fn actors_take_their_turn_with_tasks() {
    let mut tasks = tasks(&[1]);
    for (task, priority, restarts) in [(0, 0, Some(0)), (1, 5, None), (2, 9, Some(0)), (3, 0, None)] {
        let order = Order { priority, restarts, ..Order::default() };
        tasks.handle(Event::Submitted { task, order: order.into(), payload: Box::default() });
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        while let Some(action) = tasks.poll_action() {
            order.extend(if let Action::Assign { task, .. } = action { Some(task) } else { None });
        }
        order.last().into_iter().for_each(|task| end_large(&mut tasks, 0, *task, 0));
    }
    assert_eq!(order, [2, 1, 0, 3]);
}

#[test]
fn all_have_work_for_as_long_as_the_least_of_what_they_were_given_is_known_to_take() {
    let mut tasks = tasks(&[1, 1]);
    let (first, millisecond) = (0..4, 1_000_000);
    first.clone().for_each(|task| submit(&mut tasks, task, &[]));
    let given = actions(&mut tasks);
    assert!(given.iter().any(|action| action.starts_with("0 on 0")), "{given:?}");
    assert!(!tasks.all_have_work_for(0), "nobody knows how long they take");
    let end = |tasks: &mut Tasks<&'static str>, worker, task| {
        tasks.handle(Event::Ended { worker, task, ending: Ending::Small { seconds: 0.001 } });
    };
    end(&mut tasks, 0, 0);
    actions(&mut tasks);
    assert!(!tasks.all_have_work_for(0), "those that are under way were given before");
    lose(&mut tasks, 1);
    let given = actions(&mut tasks);
    let holds = |task| given.iter().any(|action| action.starts_with(&format!("{task} on 0")));
    // Those of the lost rank come with what has been learned; what this one had goes on.
    let old: Vec<TaskId> = first.filter(|task| *task != 0 && !holds(*task)).collect();
    old.into_iter().for_each(|task| end(&mut tasks, 0, task));
    (10..30).for_each(|task| submit(&mut tasks, task, &[]));
    actions(&mut tasks);
    assert!(tasks.all_have_work_for(5 * millisecond) && !tasks.all_have_work_for(1000 * millisecond));
}
