//! MTConnect documents, read into flat lists: what a model offers, what a stream has observed, what an
//! error says. Knows the shape of the documents and nothing of what an agent is asked, or why.
//!
//! Elements of unknown name are passed over, for the standard grows them every year. Bounds: the body
//! (by the owner of the connection), [`DEPTH_MAX`], [`ENTRIES_MAX`]; texts are cut. Entities other
//! than XML's own five and character references are dropped, never expanded.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use crate::device::{TEXT_BYTES_MAX, clean};

/// Deepest nesting that is read; real models need about twenty.
const DEPTH_MAX: usize = 64;

/// Most components, data items and observations of one document.
const ENTRIES_MAX: usize = 20_000;

/// A document of an agent.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) header: Header,
    pub(super) devices: Vec<Device>,
    /// In the order of the document: what a component lies within comes before it.
    pub(super) components: Vec<Component>,
    pub(super) items: Vec<DataItem>,
    pub(super) observations: Vec<Observation>,
    /// Code and words of the first error.
    pub(super) error: Option<(String, String)>,
}

/// What a document is, by its root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Other,
    Devices,
    Streams,
    Error,
}

/// The header: what tells one run of an agent from the next, and where its buffer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) instance: String,
    pub(super) buffer: Option<usize>,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) next: Option<u64>,
}

/// A device of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) uuid: String,
}

/// A component of a device, or the device itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) id: String,
    /// The component around it.
    pub(super) within: Option<usize>,
}

/// A data item of a model, with the device and the component that it belongs to, by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataItem {
    pub(super) device: usize,
    pub(super) id: String,
    pub(super) category: String,
    pub(super) kind: String,
    pub(super) subtype: String,
    pub(super) units: String,
    pub(super) component: usize,
}

/// One observation; of a condition, `element` is its level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) item: String,
    pub(super) element: String,
    pub(super) code: String,
    pub(super) text: String,
}

/// Reads a document; `None` when it is not XML, or beyond the bounds.
pub(super) fn read(body: &[u8]) -> Option<Document> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut reading = Reading::default();
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => reading.open(&element)?,
            Event::End(_) => reading.close(),
            Event::Text(text) => reading.text(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::CData(text) => reading.text(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(reference) => {
                if let Some(character) = reference.resolve_char_ref().ok().flatten() {
                    reading.text(character.encode_utf8(&mut [0; 4]));
                } else {
                    let name = reference.xml_content(XmlVersion::Implicit1_0);
                    reading.text(resolve_predefined_entity(&name).unwrap_or(""));
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    // A document that was cut off has elements open.
    (reading.open.is_empty() && reading.document.kind != Kind::Other).then_some(reading.document)
}

/// What an open element is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    Other,
    Component(usize),
    /// A data item, or what describes it.
    Item,
    Observation,
    Error,
}

/// A document being read.
#[derive(Debug, Default)]
struct Reading {
    document: Document,
    open: Vec<Open>,
}

impl Reading {
    /// An element begins; `None` when the document is beyond its bounds.
    fn open(&mut self, element: &BytesStart<'_>) -> Option<()> {
        let Document { components, items, observations, .. } = &self.document;
        let entries = components.len() + items.len() + observations.len();
        if self.open.len() >= DEPTH_MAX || entries >= ENTRIES_MAX {
            return None;
        }
        let name = element.local_name();
        let name = name.as_ref();
        let open = match self.document.kind {
            Kind::Other => self.root(name)?,
            _ if name == "Header" => self.header(element),
            Kind::Devices => self.modelled(name, element),
            Kind::Streams => self.streamed(name, element),
            Kind::Error => self.mistaken(element),
        };
        self.open.push(open);
        Some(())
    }

    fn close(&mut self) {
        self.open.pop();
    }

    fn text(&mut self, text: &str) {
        let into = match self.open.last() {
            Some(Open::Observation) => {
                self.document.observations.last_mut().map(|last| &mut last.text)
            }
            Some(Open::Error) => self.document.error.as_mut().map(|error| &mut error.1),
            _ => None,
        };
        if let Some(into) = into.filter(|into| into.len() < TEXT_BYTES_MAX) {
            into.push_str(&clean(text));
        }
    }

    fn root(&mut self, name: &str) -> Option<Open> {
        self.document.kind = match name {
            "MTConnectDevices" => Kind::Devices,
            "MTConnectStreams" => Kind::Streams,
            "MTConnectError" => Kind::Error,
            _ => return None,
        };
        Some(Open::Other)
    }

    fn header(&mut self, element: &BytesStart<'_>) -> Open {
        let number = |name| attribute(element, name).parse().ok();
        self.document.header = Header {
            instance: attribute(element, "instanceId"),
            buffer: attribute(element, "bufferSize").parse().ok(),
            first: number("firstSequence"),
            last: number("lastSequence"),
            next: number("nextSequence"),
        };
        Open::Other
    }

    fn modelled(&mut self, name: &str, element: &BytesStart<'_>) -> Open {
        match name {
            "Device" => {
                let (name, uuid) = (attribute(element, "name"), attribute(element, "uuid"));
                self.document.devices.push(Device { name, uuid });
                self.component("Device", element, None)
            }
            "DataItem" => {
                self.data_item(element);
                Open::Item
            }
            // Where it comes from, and its constraints.
            _ if self.open.last() == Some(&Open::Item) => Open::Item,
            "Devices" | "DataItems" | "Components" => Open::Other,
            // Components, and much else that is never the nearest one of a data item. What lies in
            // no device is the agent's own.
            _ => match self.nearest() {
                Some(around) => self.component(name, element, Some(around)),
                None => Open::Other,
            },
        }
    }

    fn component(&mut self, kind: &str, element: &BytesStart<'_>, within: Option<usize>) -> Open {
        let (name, id) = (attribute(element, "name"), attribute(element, "id"));
        let components = &mut self.document.components;
        components.push(Component { kind: kind.to_owned(), name, id, within });
        Open::Component(components.len() - 1)
    }

    /// The component that is open and nearest.
    fn nearest(&self) -> Option<usize> {
        self.open.iter().rev().find_map(|open| match open {
            Open::Component(place) => Some(*place),
            _ => None,
        })
    }

    /// A data item of a device; those of the agent itself come outside of any.
    fn data_item(&mut self, element: &BytesStart<'_>) {
        let Some(device) = self.document.devices.len().checked_sub(1) else { return };
        let Some(component) = self.nearest() else { return };
        self.document.items.push(DataItem {
            device,
            id: attribute(element, "id"),
            category: attribute(element, "category"),
            kind: attribute(element, "type"),
            subtype: attribute(element, "subType"),
            units: attribute(element, "units"),
            component,
        });
    }

    fn streamed(&mut self, name: &str, element: &BytesStart<'_>) -> Open {
        let item = attribute(element, "dataItemId");
        if item.is_empty() {
            return Open::Other;
        }
        let (element, code) = (name.to_owned(), attribute(element, "nativeCode"));
        self.document.observations.push(Observation { item, element, code, text: String::new() });
        Open::Observation
    }

    fn mistaken(&mut self, element: &BytesStart<'_>) -> Open {
        let code = attribute(element, "errorCode");
        if code.is_empty() || self.document.error.is_some() {
            return Open::Other;
        }
        self.document.error = Some((code, String::new()));
        Open::Error
    }
}

/// An attribute, cut; empty when there is none.
fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let found = element.try_get_attribute(name).ok().flatten();
    let value = found.and_then(|found| found.normalized_value(XmlVersion::Implicit1_0).ok());
    clean(value.as_deref().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = r#"<?xml version="1.0"?><m:MTConnectStreams xmlns:m="urn:x">
        <m:Header instanceId="12" bufferSize="64" firstSequence="1" lastSequence="9" nextSequence="10"/>
        <Streams><DeviceStream name="VMC"><ComponentStream component="Path"><Events>
        <Execution dataItemId="e" sequence="3" timestamp="T">ACTIVE</Execution>
        <Program dataItemId="p" sequence="4">A &amp; B &#x43;&unknown;</Program>
        </Events><Condition><Fault dataItemId="c" nativeCode="101">Servo</Fault>
        <Normal dataItemId="d"/></Condition></ComponentStream></DeviceStream></Streams>
        </m:MTConnectStreams>"#;

    #[test]
    fn streams_become_observations() {
        let document = read(STREAM.as_bytes()).unwrap();
        assert_eq!(document.kind, Kind::Streams);
        let Header { instance, buffer, first, last, next } = document.header;
        assert_eq!((&*instance, buffer), ("12", Some(64)));
        assert_eq!((first, last, next), (Some(1), Some(9), Some(10)));
        let seen: Vec<_> = document.observations.iter().collect();
        let words = |at: usize| (&*seen[at].element, &*seen[at].code, &*seen[at].text);
        assert_eq!(words(0), ("Execution", "", "ACTIVE"));
        assert_eq!(words(1), ("Program", "", "A & B C"));
        assert_eq!((words(2), words(3)), (("Fault", "101", "Servo"), ("Normal", "", "")));
    }

    #[test]
    fn errors_are_read_in_their_old_and_their_new_shape() {
        for body in [
            r#"<MTConnectError><Header instanceId="7"/><Error errorCode="OUT_OF_RANGE">x</Error>
            </MTConnectError>"#,
            r#"<MTConnectError><Header instanceId="7"/><Errors><OutOfRange errorCode="OUT_OF_RANGE">
            <ErrorMessage>x</ErrorMessage></OutOfRange></Errors></MTConnectError>"#,
        ] {
            let document = read(body.as_bytes()).unwrap();
            assert_eq!(document.error.unwrap().0, "OUT_OF_RANGE");
            assert_eq!(document.header.instance, "7");
        }
    }

    #[test]
    fn what_is_cut_off_too_deep_or_not_mtconnect_is_no_document() {
        for end in 0..STREAM.len() {
            assert!(read(&STREAM.as_bytes()[..end]).is_none(), "{end}");
        }
        let deep = |depth| {
            let inside = "<a>".repeat(depth) + &"</a>".repeat(depth);
            format!("<MTConnectDevices>{inside}</MTConnectDevices>")
        };
        assert!(read(deep(DEPTH_MAX - 1).as_bytes()).is_some());
        assert!(read(deep(DEPTH_MAX).as_bytes()).is_none());
        assert!(read(b"<html></html>").is_none() && read(b"").is_none() && read(b"{}").is_none());
    }
}
