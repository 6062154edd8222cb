//! Models with several executions.

use super::*;

/// The same with a second path, which has a program and a condition of its own, and a loader that is
/// a controller beside the first.
fn with_more_paths() -> String {
    let second = r#"<Path id="p2" name="path2"><DataItems>
        <DataItem category="EVENT" id="exec2" type="EXECUTION"/>
        <DataItem category="EVENT" id="prog2" type="PROGRAM"/>
        <DataItem category="CONDITION" id="motion2" type="MOTION_PROGRAM"/></DataItems></Path>
        </Components></Controller>
        <Controller id="cn2" name="loader"><DataItems>
        <DataItem category="CONDITION" id="system2" type="SYSTEM"/></DataItems><Components>
        <Path id="p3"><DataItems><DataItem category="EVENT" id="exec3" type="EXECUTION">
        <Source componentId="p"><Other name="path"/></Source></DataItem>
        </DataItems></Path></Components></Controller></Components></Device>"#;
    PROBE.replace("</Components></Controller></Components></Device>", second)
}

#[test]
fn one_of_several_executions_is_chosen_by_name_and_never_the_first_by_itself() {
    let model = with_more_paths();
    let asked = |path: Option<&str>| {
        let options: Vec<_> = path.map(|path| ("path", path)).into_iter().collect();
        let mut device = made(&options).unwrap();
        step(&mut *device, 0, Heard::Opened);
        let out = step(&mut *device, 0, response(200, &model));
        (device, out)
    };
    for (path, words) in [
        (None, "the device has several executions; name one with path: path, path2, p3"),
        (
            Some("controller"),
            "there are several executions in \"controller\"; name one: path, path2, p3",
        ),
        (Some("c"), "the device has no execution in \"c\", but in: path, path2, p3"),
    ] {
        let (device, out) = asked(path);
        assert!(all_missing(&*device, &out, Unavailable::Refused), "{path:?}");
        assert_eq!(out.trouble.as_deref(), Some(words));
    }
    let observations = "avail=AVAILABLE exec=ACTIVE prog=O1 exec2=READY prog2=O2 exec3=WAIT msg=hello \
        motion2!Fault:1=Turret system2!Fault:2=Gripper Xact=1.5";
    for (path, execution, program, message) in [
        ("path", "running", "O1", "hello"),
        ("p2", "fault", "O2", "Turret"),
        ("path2", "fault", "O2", "Turret"),
        ("loader", "fault", "(sentinel)", "Gripper"),
    ] {
        let (mut device, out) = asked(Some(path));
        assert_eq!(paths(&out), ["/current"], "{path}");
        let said = said(&step(&mut *device, 0, response(200, &stream(77, 99, 100, observations))));
        let told = (&*said["execution"], &*said["job.name"], &*said["message"]);
        assert_eq!(told, (execution, program, message), "{path}");
        assert_eq!(said["position.x"], "1.5", "the axes are everybody's");
    }
}

#[test]
fn a_path_that_is_named_where_there_is_but_one_must_be_that_one() {
    for (path, is_right) in [("path", true), ("p", true), ("VMC", true), ("path2", false)] {
        let mut device = made(&[("path", path)]).unwrap();
        step(&mut *device, 0, Heard::Opened);
        let out = step(&mut *device, 0, response(200, PROBE));
        assert_eq!(out.trouble.is_none(), is_right, "{path}");
    }
}

#[test]
fn a_path_that_is_named_where_nothing_executes_is_said_to_name_nothing() {
    let mut device = made(&[("path", "path2")]).unwrap();
    step(&mut *device, 0, Heard::Opened);
    let model = PROBE.replace(r#"type="EXECUTION""#, r#"type="BLOCK""#);
    let out = step(&mut *device, 0, response(200, &model));
    assert!(all_missing(&*device, &out, Unavailable::Refused));
    let words = "the device has no execution at all, so none in \"path2\"";
    assert_eq!(out.trouble.as_deref(), Some(words));
}
