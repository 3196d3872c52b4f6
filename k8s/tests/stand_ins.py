"""The modules of k8s/aws with every resource of a provider replaced by Terraform's own
`terraform_data`, whose attributes may be anything. What is left can be initialised and
validated by the real Terraform without a registry: syntax, functions, types of variables and of
module arguments, references to variables, locals, modules and their outputs. It can be planned,
too: what a provider would tell is unknown before the apply, so that a `count` or `for_each` that
needs it is refused. The names of attributes of providers' resources are what it cannot know."""

import re

REFERENCE = re.compile(r"(?<![\w.\"/-])(data\.)?((?:aws|random|tls|time|null|kubernetes|helm|http)_[a-z0-9_]+)\.([A-Za-z_][\w-]*)")
# A whole resource with `for_each`: its keys are known, what it has is not.
WHOLE = re.compile(REFERENCE.pattern + r"(?![\w.\[-])")
# Known only where the provider is: any value.
ANYTHING = "terraform_data.anything.output"
META = {"count", "for_each"}
LEFT_OUT = {"provider", "depends_on", "lifecycle", "providers"}


def rewritten(expression):
    return REFERENCE.sub(ANYTHING, expression)


def values(body):
    """Every expression of a resource as an element of a list; `dynamic` as what it is, a loop."""
    parts = [
        rewritten(text)
        for name, text in body.attributes.items()
        if name not in META | LEFT_OUT
    ]
    for block in body.blocks:
        if block.kind in LEFT_OUT or block.kind in ("provisioner", "connection"):
            continue
        if block.kind == "dynamic":
            name = block.attributes.get("iterator", block.labels[0])
            source = rewritten(block.attributes["for_each"])
            inner = ",\n".join(part for content in block.all("content") for part in values(content))
            parts.append(f"[for {name} in [for k, v in {source} : {{ key = k, value = v }}] : [\n{inner}\n]]")
        else:
            parts.append("[\n" + ",\n".join(values(block)) + "\n]")
    return parts


def stand_in(kind, *labels):
    return "_".join([kind[0], *labels])


def instances(expression):
    """What `count` or `for_each` says."""
    whole = lambda match: (
        f"{{ for key, one in terraform_data.{stand_in(match[1] or 'resource', match[2], match[3])} : key => {ANYTHING} }}"
    )
    return rewritten(WHOLE.sub(whole, expression))


def resource(block):
    meta = "".join(f"  {name} = {instances(block.attributes[name])}\n" for name in META if name in block.attributes)
    name = stand_in(block.kind, *block.labels)
    return f'resource "terraform_data" "{name}" {{\n{meta}  input = [\n' + ",\n".join(values(block)) + "\n  ]\n}\n"


def plain(block, indent=""):
    """A block as it was written, with references replaced."""
    labels = "".join(f' "{label}"' for label in block.labels)
    lines = [f"{indent}{block.kind}{labels} {{"]
    for name, text in block.attributes.items():
        if name not in LEFT_OUT:
            lines.append(f"{indent}  {name} = {rewritten(text)}")
    for inner in block.blocks:
        lines.append(plain(inner, indent + "  "))
    lines.append(f"{indent}}}")
    return "\n".join(lines) + "\n"


def write(module, folder):
    folder.mkdir(parents=True, exist_ok=True)
    text = 'resource "terraform_data" "seed" {}\nresource "terraform_data" "anything" {\n  input = jsondecode(terraform_data.seed.id)\n}\n'
    for block in module.body.blocks:
        if block.kind in ("resource", "data"):
            text += resource(block)
        elif block.kind in ("variable", "locals", "output", "module", "check"):
            text += plain(block)
    (folder / "main.tf").write_text(text)
