//! What a function of the host answers to a caller without any grant, laid out in
//! memory as the canonical ABI wants it: the interface's own denial where it has
//! one. Where it has none, nobody gets that far: the call traps.

use wit_parser::abi::WasmSignature;
use wit_parser::{Function, Resolve, SizeAlign, Type, TypeDefKind, TypeId, Variant, abi::WasmType};

/// What one function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing that could be said.
    Trap,
    /// One number.
    Flat(i32),
    /// What stands at this address.
    At(u32),
    /// The same, with its first parameter, a text, as a part of it.
    Echo {
        /// Where the answer stands.
        address: u32,
        /// Where in memory the text's address and length belong.
        text: u32,
    },
}

/// The cases of errors that deny something, best first. These are what Spin's
/// refusals use.
const DENIALS: [&str; 9] = [
    "access-denied",
    "undefined",
    "internal-error",
    "model-not-supported",
    "destination-not-allowed",
    "other",
    "other-error",
    "io",
    "error",
];
/// The denial that names what was asked for.
const ECHO: &str = "undefined";

/// Collects the answers of all functions.
pub(super) struct Answers<'a> {
    resolve: &'a Resolve,
    sizes: SizeAlign,
    bytes: Vec<u8>,
}

/// What the memory holds from the beginning.
pub(super) struct Image(Vec<u8>);

impl Image {
    /// Its first address: not 0, which would look like none.
    pub(super) const START: u32 = 16;

    /// The first address behind it.
    pub(super) fn end(&self) -> u32 {
        // Answers are a few bytes each, functions a few dozen.
        Self::START + u32::try_from(self.0.len()).unwrap_or(u32::MAX / 2)
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> impl ExactSizeIterator<Item = u8> + use<'_> {
        self.0.iter().copied()
    }
}

/// Where in an answer the caller's own text belongs.
type Place = Option<usize>;

impl<'a> Answers<'a> {
    pub(super) fn new(resolve: &'a Resolve) -> Self {
        let mut sizes = SizeAlign::default();
        sizes.fill(resolve);
        Self {
            resolve,
            sizes,
            bytes: Vec::new(),
        }
    }

    pub(super) fn into_image(mut self) -> Image {
        self.reserve(0, 8);
        Image(self.bytes)
    }

    /// The answer of `func`, a function of `interface`.
    pub(super) fn add(
        &mut self,
        interface: &str,
        func: &Function,
        signature: &WasmSignature,
    ) -> Answer {
        let Some(result) = func.result else {
            return Answer::Trap;
        };
        if !signature.retptr {
            return match (self.kind(&result), &signature.results[..]) {
                (Some(TypeDefKind::Result(_)), [WasmType::I32]) => Answer::Flat(1),
                _ => Answer::Trap,
            };
        }
        let name = interface.split('@').next().unwrap_or(interface);
        let said = format!("\"{name}\" is not permitted");
        let size = self.sizes.size(&result).size_wasm32();
        let at = self.reserve(size, self.sizes.align(&result).align_wasm32());
        match self.refuse(&result, at, &said) {
            None => Answer::Trap,
            Some(Some(text)) if takes_text_first(func, signature) => Answer::Echo {
                address: address(at),
                text: address(text),
            },
            // Nothing to send back, or a text that cannot be reached: it stays empty.
            Some(_) => Answer::At(address(at)),
        }
    }

    fn kind(&self, ty: &Type) -> Option<&'a TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        Some(self.plain(*id))
    }

    /// What is behind other names of a type.
    fn plain(&self, id: TypeId) -> &'a TypeDefKind {
        match &self.resolve.types[id].kind {
            TypeDefKind::Type(Type::Id(other)) => self.plain(*other),
            kind => kind,
        }
    }

    /// Writes a refusal of type `ty`, if there is one.
    fn refuse(&mut self, ty: &Type, at: usize, said: &str) -> Option<Place> {
        match self.kind(ty)? {
            // An empty list, and none: zeros.
            TypeDefKind::List(_) | TypeDefKind::Option(_) => Some(None),
            TypeDefKind::Result(result) => {
                self.bytes[at] = 1;
                let Some(error) = &result.err else {
                    return Some(None);
                };
                let payloads = [result.ok.as_ref(), Some(error)];
                let offset = self.sizes.payload_offset(wit_parser::Int::U8, payloads);
                self.deny(error, at + offset.size_wasm32(), said)
            }
            _ => None,
        }
    }

    /// Writes the case of the error `ty` that denies, if there is one.
    fn deny(&mut self, ty: &Type, at: usize, said: &str) -> Option<Place> {
        if *ty == Type::String {
            self.text(at, said);
            return Some(None);
        }
        match self.kind(ty)? {
            TypeDefKind::Enum(cases) => {
                let case = DENIALS
                    .iter()
                    .find_map(|name| cases.cases.iter().position(|case| case.name == *name))?;
                self.number(at, case, cases.tag());
                Some(None)
            }
            TypeDefKind::Variant(variant) => self.deny_by(variant, at, said),
            _ => None,
        }
    }

    fn deny_by(&mut self, variant: &Variant, at: usize, said: &str) -> Option<Place> {
        for name in DENIALS {
            let found = variant.cases.iter().position(|case| case.name == name);
            let Some(case) = found else { continue };
            let payloads = variant.cases.iter().map(|case| case.ty.as_ref());
            let offset = self.sizes.payload_offset(variant.tag(), payloads);
            let payload = at + offset.size_wasm32();
            let place = match variant.cases[case].ty {
                None => None,
                Some(Type::String) if name == ECHO => Some(payload),
                Some(Type::String) => {
                    self.text(payload, said);
                    None
                }
                Some(ty) if self.is_optional_text(&ty) => {
                    self.bytes[payload] = 1;
                    self.text(payload + 4, said);
                    None
                }
                Some(_) => continue,
            };
            self.number(at, case, variant.tag());
            return Some(place);
        }
        None
    }

    fn is_optional_text(&self, ty: &Type) -> bool {
        matches!(self.kind(ty), Some(TypeDefKind::Option(Type::String)))
    }

    /// Writes the address and the length of `text`.
    fn text(&mut self, at: usize, text: &str) {
        let from = self.reserve(text.len(), 1);
        self.bytes[from..from + text.len()].copy_from_slice(text.as_bytes());
        self.bytes[at..at + 4].copy_from_slice(&address(from).to_le_bytes());
        let length = u32::try_from(text.len()).unwrap_or_default();
        self.bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
    }

    fn number(&mut self, at: usize, value: usize, tag: wit_parser::Int) {
        let width = match tag {
            wit_parser::Int::U8 => 1,
            wit_parser::Int::U16 => 2,
            wit_parser::Int::U32 | wit_parser::Int::U64 => 4,
        };
        self.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Room for `size` bytes, zeros, counted from the image's start.
    fn reserve(&mut self, size: usize, align: usize) -> usize {
        let at = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(at + size, 0);
        at
    }
}

/// Whether core parameters 0 and 1 are a text.
fn takes_text_first(func: &Function, signature: &WasmSignature) -> bool {
    let first = func.params.first().map(|param| param.ty);
    first == Some(Type::String) && !signature.indirect_params
}

fn address(at: usize) -> u32 {
    Image::START + u32::try_from(at).unwrap_or_default()
}
