import ArgumentParser
import Glibc
import MeshCompiler
import MeshModel
import MeshYAML
import XDSWire

struct Render: ParsableCommand {
    enum Output: String, ExpressibleByArgument, CaseIterable {
        case yaml
        case json
        case snapshot
    }

    static let configuration = CommandConfiguration(
        abstract: "Shows what the proxy of one node or gateway will run.",
        discussion: """
            yaml is for reading: xDS words, values that no file names marked by '# App Mesh default'. json is the same with a list \
            'notes'. snapshot is the file that 'outrigger-proxy --snapshot' takes. Warnings go to standard error.

            EXAMPLES
              outrigger render -f mesh/ --node cart
              outrigger render -f mesh/ --node cart.shop -o json
              outrigger render -f mesh/ --gateway edge -o snapshot --output edge.snapshot
            """)

    @OptionGroup var input: MeshInput
    @OptionGroup var subject: SubjectOptions

    @Option(name: .customShort("o"), help: ArgumentHelp("yaml, json or snapshot.", valueName: "format"))
    var format = Output.yaml

    @Option(help: ArgumentHelp("Where to write (default: standard output).", valueName: "path"))
    var output: String?

    func validate() throws {
        if format == .snapshot, output == nil, isatty(STDOUT_FILENO) != 0 {
            throw ValidationError("A snapshot is binary: name a file with --output.")
        }
    }

    func run() throws {
        let rendering = try Rendering(input: input, subject: subject, standardInput: try input.readStandardInput())
        for warning in rendering.warnings { Console.write(warning) }
        let bytes: [UInt8]
        switch format {
        case .yaml: bytes = Array(rendering.node.yaml(version: rendering.version).utf8)
        case .json: bytes = Array(rendering.node.json(version: rendering.version).utf8)
        case .snapshot: bytes = rendering.file
        }
        if let output {
            do throws(FileError) {
                try AtomicFile.write(bytes, to: output)
            } catch {
                throw Failure(message: "\(output) cannot be written: \(error.reason)")
            }
        } else {
            Console.emit(bytes)
        }
    }
}

extension CompiledNode {
    /// The compiler's warnings, without those about a field that the loader has already complained of (an unresolved reference).
    func warnings(beside diagnostics: [Diagnostic]) -> [Note] {
        let said = diagnostics.map { "\($0.resource ?? "") \($0.path)" }
        return warnings.filter { note in !said.contains { $0.hasPrefix(note.path) } }
    }
}

/// A mesh that was read, and the snapshot of one proxy of it.
struct Rendering {
    let node: CompiledNode
    let subject: MeshCompiler.Subject
    /// The hash of the content.
    let version: String
    let file: [UInt8]
    /// Lines for people.
    let warnings: [String]
    /// What was read.
    let files: [String]

    /// - Throws: a `Failure` with every error, one a line.
    init(input: MeshInput, subject options: SubjectOptions, standardInput: String?) throws {
        let loaded = input.load(standardInput: standardInput)
        guard !loaded.hasErrors else {
            // Without the warnings: what a broken file would have held is missed elsewhere.
            let errors = loaded.diagnostics.filter { $0.severity == .error }
            for error in errors { Console.write("\(error)") }
            throw Failure(message: "the mesh is not valid: \(counted(errors.count, "error"))")
        }
        subject = try options.subject(in: loaded.resources)
        switch MeshCompiler.compile(loaded.resources, for: subject) {
        case .success(let compiled):
            node = compiled
        case .failure(let failure):
            for error in failure.errors { Console.write("\(error)") }
            throw Failure(message: "there is no configuration for \(subject.key): \(counted(failure.errors.count, "error"))")
        }
        warnings = loaded.diagnostics.map { "\($0)" } + node.warnings(beside: loaded.diagnostics).map { "\($0)" }
        file = SnapshotFile.encode(node.snapshot)
        version = SnapshotFile.version(of: node.snapshot)
        files = loaded.files
    }
}
