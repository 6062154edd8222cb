//! Listeners and pseudo-terminals, asked by tokio-modbus, an implementation that is not ours.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpStream;
use tokio_modbus::client::{Reader as _, Writer as _, rtu, tcp};
use tokio_modbus::slave::SlaveContext as _;
use tokio_modbus::{ExceptionCode, Slave};

use super::*;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn honest(client: &mut tokio_modbus::client::Context, bench: &Bench) {
    client.set_slave(Slave(METER));
    bench.set(METER, "power.active", 1500.25).unwrap();
    assert_eq!(client.read_input_registers(12, 2).await.unwrap(), Ok(vec![0x44BB, 0x8800]));
    let beyond = client.read_holding_registers(12, 2).await.unwrap();
    assert_eq!(beyond, Err(ExceptionCode::IllegalDataAddress));
    let unknown = client.write_single_register(0, 1).await.unwrap();
    assert_eq!(unknown, Err(ExceptionCode::IllegalFunction));
    client.set_slave(Slave(WATER));
    bench.set(None, "temperature", -20.5).unwrap();
    assert_eq!(client.read_input_registers(1, 1).await.unwrap(), Ok(vec![0xFF33]));
    client.set_slave(Slave(RELAYS));
    assert_eq!(client.read_coils(0, 8).await.unwrap(), Ok(vec![false; 8]));
    client.write_single_coil(2, true).await.unwrap().unwrap();
    assert_eq!((bench.coil(RELAYS, 1), bench.coil(RELAYS, 2)), (Some(false), Some(true)));
    client.write_multiple_coils(1, &[true, false]).await.unwrap().unwrap();
    assert!(bench.set_coil(RELAYS, 7, true));
    let mut expected = vec![false; 8];
    (expected[1], expected[7]) = (true, true);
    assert_eq!(client.read_coils(0, 8).await.unwrap(), Ok(expected));
    bench.set(RELAYS, "input.2", 1.0).unwrap();
    assert_eq!(client.read_discrete_inputs(0, 3).await.unwrap(), Ok(vec![false, true, false]));
    assert_eq!(client.read_coils(8, 1).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));
}

#[tokio::test]
async fn tcp_is_served_to_a_foreign_client() {
    let bench = bench();
    let address = bench.start_tcp(any_port()).unwrap();
    assert_eq!(bench.address(), Some(Address::Tcp(address)));
    let mut client = tcp::connect_slave(address, Slave(METER)).await.unwrap();
    honest(&mut client, &bench).await;
    client.set_slave(Slave(99));
    let nobody = client.read_coils(0, 1).await.unwrap();
    assert_eq!(nobody, Err(ExceptionCode::GatewayTargetDevice));
}

fn open(path: &Path) -> io::Result<tokio_serial::SerialStream> {
    let builder = tokio_serial::new(path.to_string_lossy(), 115_200);
    tokio_serial::SerialStream::open(&builder).map_err(io::Error::other)
}

#[tokio::test]
async fn a_terminal_is_served_to_a_foreign_client_again_and_again() {
    let bench = bench();
    let path = bench.start_rtu(115_200, None).unwrap();
    for _ in 0..2 {
        let mut client = rtu::attach_slave(open(&path).unwrap(), Slave(METER));
        for coil in 0..8 {
            bench.set_coil(RELAYS, coil, false);
        }
        timeout(PATIENCE, honest(&mut client, &bench)).await.unwrap();
        client.set_slave(Slave(99));
        let nobody = timeout(Duration::from_millis(200), client.read_coils(0, 1)).await;
        assert!(nobody.is_err(), "a serial line is silent for a unit that is not there");
    }
}

#[tokio::test]
async fn rtu_in_a_tcp_stream_is_served_to_a_foreign_client() {
    let bench = bench();
    let address = bench.start_rtu_over_tcp(any_port(), 115_200).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = rtu::attach_slave(stream, Slave(METER));
    timeout(PATIENCE, honest(&mut client, &bench)).await.unwrap();
}

#[tokio::test]
async fn the_plug_of_a_terminal() {
    let link = scratch("port");
    let bench = bench();
    assert_eq!(bench.start_rtu(115_200, Some(&link)).unwrap(), link);
    for _ in 0..3 {
        let mut port = open(&link).unwrap();
        port.write_all(&wrap(Framing::Rtu, 0, METER, &READ_POWER)).await.unwrap();
        let mut reply = [0; 9];
        timeout(PATIENCE, port.read_exact(&mut reply)).await.unwrap().unwrap();
        bench.unplug();
        assert_eq!(bench.address(), None);
        // The port hangs up: the end of the stream or an error.
        let hung_up = timeout(PATIENCE, port.read(&mut reply)).await.unwrap();
        assert!(matches!(hung_up, Ok(0) | Err(_)), "{hung_up:?}");
        bench.replug();
        let again = timeout(PATIENCE, bench.served()).await.unwrap();
        assert_eq!(again, Address::Terminal(link.clone()));
    }
    drop(bench);
    let gone = async {
        while std::fs::symlink_metadata(&link).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the link goes with the last handle");
}

#[test]
fn a_link_replaces_links_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let link = scratch("file");
    std::fs::write(&link, "precious").unwrap();
    assert!(bench().start_rtu(9600, Some(&link)).is_err());
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "precious");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &link).unwrap();
    assert_eq!(bench().start_rtu(9600, Some(&link)).unwrap(), link);
}

#[tokio::test]
async fn the_plug_of_a_listener() {
    let bench = bench();
    let address = bench.start_tcp(any_port()).unwrap();
    for _ in 0..3 {
        let mut client = tcp::connect_slave(address, Slave(METER)).await.unwrap();
        client.read_input_registers(12, 2).await.unwrap().unwrap();
        bench.unplug();
        let cut = timeout(PATIENCE, client.read_input_registers(12, 2)).await.unwrap();
        assert!(cut.is_err(), "{cut:?}");
        let refused = async { while TcpStream::connect(address).await.is_ok() {} };
        timeout(PATIENCE, refused).await.expect("nobody listens");
        bench.replug();
        assert_eq!(timeout(PATIENCE, bench.served()).await.unwrap(), Address::Tcp(address));
    }
    drop(bench);
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("the line ends with its last handle");
}

#[tokio::test]
async fn connections_are_bounded_and_freed() {
    let bench = bench();
    let address = bench.start_tcp(any_port()).unwrap();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut client = tcp::connect_slave(address, Slave(METER)).await.unwrap();
        client.read_input_registers(12, 2).await.unwrap().unwrap();
        held.push(client);
    }
    let mut one_more = TcpStream::connect(address).await.unwrap();
    assert_eq!(timeout(PATIENCE, one_more.read(&mut [0])).await.unwrap().unwrap(), 0);
    held.clear();
    let freed = async {
        loop {
            let mut client = tcp::connect_slave(address, Slave(METER)).await.unwrap();
            if client.read_input_registers(12, 2).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, freed).await.expect("a place becomes free");
}
