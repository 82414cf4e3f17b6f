//! A program whose `main` returns `rankfold::Result`: plays the scenario that its arguments name.

mod scenarios;

fn main() -> rankfold::Result<()> {
    let world = rankfold::init()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match scenarios::play(&world, &arguments) {
        Ok(()) => Ok(()),
        Err(error) => match error.downcast::<rankfold::Error>() {
            Ok(error) => Err(*error),
            Err(error) => panic!("{error}"),
        },
    }
}
