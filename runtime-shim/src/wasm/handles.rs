//! The handles that a refused call is given. Who is given one has to drop it: a
//! borrowed one that is kept ends the caller, an owned one would stay for ever.
//! Only handles of the host's own resources count; of a refused interface nobody
//! ever has one.

use wit_parser::abi::{FlatTypes, WasmSignature, WasmType};
use wit_parser::{
    Function, Handle, LiftLowerAbi, ManglingAndAbi, Resolve, ResourceIntrinsic, Type, TypeDefKind,
    TypeId, TypeOwner, WasmImport, WorldId, WorldKey,
};

/// A handle in the parameters of a core function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The parameter that holds it.
    pub(super) param: u32,
    /// The parameter that says whether it is there, if it may be absent.
    pub(super) if_some: Option<u32>,
    /// Which of the imported functions drops it.
    pub(super) drop: u32,
}

/// Collects the functions that drop handles.
pub(super) struct Drops<'a> {
    resolve: &'a Resolve,
    world: WorldId,
    imports: Vec<(String, String)>,
}

impl<'a> Drops<'a> {
    pub(super) fn new(resolve: &'a Resolve, world: WorldId) -> Self {
        Self {
            resolve,
            world,
            imports: Vec::new(),
        }
    }

    /// Module and name of each function to import.
    pub(super) fn into_imports(self) -> Vec<(String, String)> {
        self.imports
    }

    /// The handles that `func` is given.
    pub(super) fn given_to(&mut self, func: &Function, signature: &WasmSignature) -> Vec<Given> {
        let mut given = Vec::new();
        if signature.indirect_params {
            return given;
        }
        let mut at = 0;
        for param in &func.params {
            let (ty, if_some) = match self.kind(&param.ty) {
                Some(TypeDefKind::Option(inner)) => (*inner, Some(at)),
                _ => (param.ty, None),
            };
            if let Some(drop) = self.drop_of(&ty) {
                given.push(Given {
                    param: at + u32::from(if_some.is_some()),
                    if_some,
                    drop,
                });
            }
            at += self.width(&param.ty);
        }
        given
    }

    fn kind(&self, ty: &Type) -> Option<&'a TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        Some(&self.resolve.types[self.plain(*id)].kind)
    }

    /// What is behind other names of a type.
    fn plain(&self, id: TypeId) -> TypeId {
        match &self.resolve.types[id].kind {
            TypeDefKind::Type(Type::Id(other)) => self.plain(*other),
            _ => id,
        }
    }

    /// The function that drops a handle of type `ty`, if it is one of the host's.
    fn drop_of(&mut self, ty: &Type) -> Option<u32> {
        let Some(TypeDefKind::Handle(Handle::Own(resource) | Handle::Borrow(resource))) =
            self.kind(ty)
        else {
            return None;
        };
        let resource = self.plain(*resource);
        let TypeOwner::Interface(interface) = self.resolve.types[resource].owner else {
            return None;
        };
        let key = WorldKey::Interface(interface);
        if self.resolve.worlds[self.world].exports.contains_key(&key) {
            return None;
        }
        let import = self.resolve.wasm_import_name(
            ManglingAndAbi::Legacy(LiftLowerAbi::Sync),
            WasmImport::ResourceIntrinsic {
                interface: Some(&key),
                resource,
                intrinsic: ResourceIntrinsic::ImportedDrop,
            },
        );
        let found = self.imports.iter().position(|known| *known == import);
        let index = found.unwrap_or_else(|| {
            self.imports.push(import);
            self.imports.len() - 1
        });
        u32::try_from(index).ok()
    }

    /// The core parameters that a parameter of type `ty` takes.
    fn width(&self, ty: &Type) -> u32 {
        let mut types = [WasmType::I32; Resolve::MAX_FLAT_PARAMS];
        let mut flat = FlatTypes::new(&mut types);
        self.resolve.push_flat(ty, &mut flat);
        // At most 16.
        u32::try_from(flat.to_vec().len()).unwrap_or_default()
    }
}
