//! An older Haas on a serial line that holds its host up: on a pseudo-terminal with paced bytes, where
//! parity and 7 bits are asked for and are not there.

use andon_tests::controllers::{Board, Fake};
use andon_tests::process::work_dir;
use andon_tests::workshop::Workshop;
use anyhow::{Result, ensure};

use super::PERIOD_MS;

#[test]
fn an_old_haas_that_says_xoff_in_the_middle_of_its_answers_is_heard_whole() -> Result<()> {
    let dir = work_dir("haas-line")?;
    let port = dir.join("tty");
    let Some(mut haas) = Fake::start("haas_fake", &dir, &["--link", &port.to_string_lossy()])?
    else {
        return Ok(());
    };
    haas.say("xoff 60")?;
    Workshop::new(&dir)
        .with(&format!(
            "[source.vf2]\nprotocol = \"haas\"\nport = \"{}\"\nowner = \"andon\"\n\
             data_bits = 7\nparity = \"even\"\nflow = \"xonxoff\"\nquestion_mark = \"false\"\n\
             period = \"{PERIOD_MS} ms\"\n[machine.mill]\nkind = \"mill\"\nsource = \"vf2\"\n",
            port.display()
        ))
        .write(&dir)?;
    let board = Board::start(&dir)?;
    board.wait_for_execution("mill", "ready")?;
    board.wait_for_value("mill", "parts", |parts| *parts == 4380.0)?;
    for (order, execution) in [("busy", "running"), ("hold", "paused"), ("alarm", "fault")] {
        haas.say(order)?;
        board.wait_for_execution("mill", execution)?;
    }
    board.wait_for_value("mill", "job.name", |name| name == "O01234")?;
    // Held up for longer than a period, and nobody speaks over it.
    haas.say("xoff 600")?;
    haas.say("spindle 3500")?;
    board.wait_for_value("mill", "speed.spindle", |speed| *speed == 3500.0)?;
    board.wait_for_value("mill", "tool", |tool| *tool == 5.0)?;
    let late = haas.ask("late")?;
    ensure!(late == "0", "{late} bytes between an XOFF and its XON");
    Ok(())
}
