import ArgumentParser
import Glibc
import MeshCompiler
import MeshModel
import MeshYAML

/// The options of every command that reads a mesh.
struct MeshInput: ParsableArguments {
    @Option(
        name: [.customShort("f"), .customLong("file")], parsing: .upToNextOption,
        help: ArgumentHelp("Files, directories (walked for *.yaml, *.yml, *.json) and - for standard input.", valueName: "path"))
    var files: [String] = []

    @Flag(help: "Unknown fields are errors, not warnings.")
    var strict = false

    @Option(help: ArgumentHelp("The namespace of resources that name none.", valueName: "namespace"))
    var namespace = "default"

    @Option(help: ArgumentHelp("The name of resources that have none (default: the file's name without its ending).", valueName: "name"))
    var name: String?

    func validate() throws {
        guard !files.isEmpty else {
            throw ValidationError("Nothing to read. Name files or directories with -f, or - for standard input.")
        }
    }

    var readsStandardInput: Bool { files.contains(MeshLoader.standardInputPath) }

    /// - Parameter standardInput: The text of `-`, which can be read once only.
    func load(standardInput: String?) -> LoadResult {
        MeshLoader.load(
            paths: files, standardInput: standardInput,
            options: LoadOptions(strict: strict, defaultNamespace: namespace, defaultName: name))
    }

    func readStandardInput() throws -> String? {
        readsStandardInput ? try StandardInput.read() : nil
    }
}

/// Whose proxy it is.
struct SubjectOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("The VirtualNode: NAME, NAME.NAMESPACE or NAMESPACE/NAME.", valueName: "name"))
    var node: String?

    @Option(help: ArgumentHelp("The VirtualGateway, named likewise.", valueName: "name"))
    var gateway: String?

    func validate() throws {
        if node != nil, gateway != nil { throw ValidationError("--node and --gateway exclude each other.") }
    }

    /// - Throws: a `Failure` that lists what there is.
    func subject(in resources: MeshResources) throws -> MeshCompiler.Subject {
        if let gateway {
            return .virtualGateway(try Self.find(gateway, in: resources.virtualGateways, "VirtualGateway"))
        }
        if let node {
            return .virtualNode(try Self.find(node, in: resources.virtualNodes, "VirtualNode"))
        }
        // Where there is no choice there is no question.
        if resources.virtualNodes.count == 1, resources.virtualGateways.isEmpty { return .virtualNode(resources.virtualNodes[0].key) }
        if resources.virtualGateways.count == 1, resources.virtualNodes.isEmpty { return .virtualGateway(resources.virtualGateways[0].key) }
        let lists = [Self.list(resources.virtualNodes, "--node"), Self.list(resources.virtualGateways, "--gateway")].compactMap(\.self)
        guard !lists.isEmpty else { throw Failure(message: "the mesh has neither a VirtualNode nor a VirtualGateway") }
        throw Failure(message: "say whose proxy it is:\n\(lists.joined(separator: "\n"))", status: Failure.usage)
    }

    private static func find(_ wanted: String, in table: ResourceTable<some MeshNamed>, _ kind: String) throws -> ResourceKey {
        let found = table.filter { resource in
            let (name, namespace) = (resource.meta.name, resource.meta.namespace)
            return [name, "\(name).\(namespace)", "\(namespace)/\(name)", resource.meshName].contains(wanted)
        }
        if found.count == 1 { return found[0].key }
        guard found.isEmpty else {
            let names = found.map { "  \($0.meta.namespace)/\($0.meta.name)" }.joined(separator: "\n")
            throw Failure(message: "\(kind) \"\(wanted)\" is not clear; there are\n\(names)")
        }
        guard let list = list(table, "") else { throw Failure(message: "there is no \(kind) \"\(wanted)\": the mesh has none at all") }
        throw Failure(message: "there is no \(kind) \"\(wanted)\"; there are\n\(list)")
    }

    private static func list(_ table: ResourceTable<some MeshNamed>, _ option: String) -> String? {
        guard !table.isEmpty else { return nil }
        let shown = table.prefix(20).map { "  \(option.isEmpty ? "" : "\(option) ")\($0.meta.namespace)/\($0.meta.name)" }
        let more = table.count > shown.count ? ["  and \(table.count - shown.count) more"] : []
        return (shown + more).joined(separator: "\n")
    }
}

/// What the last system call said.
func systemError() -> String {
    unsafe String(cString: strerror(errno))
}

/// `1 cluster`, `2 clusters`.
func counted(_ count: Int, _ noun: String) -> String {
    if count == 1 { return "1 \(noun)" }
    return noun.hasSuffix("y") ? "\(count) \(noun.dropLast())ies" : "\(count) \(noun)s"
}
