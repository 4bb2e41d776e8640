import ArgumentParser
import ControlAPI
import Explain
import MeshCompiler
import MeshModel
import MeshYAML

struct ExplainCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Tells which way a request would take, and why.",
        discussion: """
            Listener, virtual host, route (and why those before it do not match), targets, policies and endpoints; values that nobody \
            wrote down are marked with '~'. With -f it looks at files and needs no control plane. tcp://HOST asks for a connection.

            EXAMPLES
              outrigger explain --from front GET http://color.local/paint -H 'x-tester: yes'
              outrigger explain -f mesh/ --from front http://color.local:8080/
              outrigger explain --from edge https://shop.example.com/cart
            """)

    @Argument(help: ArgumentHelp("[METHOD] URL", valueName: "request"))
    var words: [String]

    @Option(help: ArgumentHelp("The VirtualNode that calls, or the VirtualGateway that is called.", valueName: "name"))
    var from: String

    @Option(help: ArgumentHelp("Which of its proxies, by --instance; without it the first that is connected.", valueName: "name"))
    var instance: String?

    @Option(
        name: [.customShort("H"), .customLong("header")], help: ArgumentHelp("'name: value', as often as needed.", valueName: "header"))
    var headers: [String] = []

    @OptionGroup var input: FileOptions
    @OptionGroup var control: ControlOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("With -f: the namespace of resources that name none.", valueName: "namespace"))
    var namespace: String?

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        guard 1...2 ~= words.count else { throw ValidationError("Expected [METHOD] URL.") }
        _ = try fields()
    }

    func run() throws {
        guard !input.files.isEmpty else { return try run(control.session()) }
        try show(try offline(standardInput: input.files.contains("-") ? StandardInput.read() : nil), .standard)
    }

    func run(_ session: Session) throws {
        try show(try session.post("/v1/explain", try request()), session.screen)
    }

    func offline(standardInput: String?) throws -> Explanation {
        let loaded = MeshLoader.load(
            paths: input.files, standardInput: standardInput, options: LoadOptions(defaultNamespace: namespace ?? "default"))
        guard !loaded.hasErrors else {
            let errors = loaded.diagnostics.filter { $0.severity == .error }
            for error in errors { Console.write("\(error)") }
            throw Failure(message: "the mesh is not valid: \(counted(errors.count, "error"))")
        }
        do throws(ExplainError) {
            let subject = try Explainer.subject(named: from, in: loaded.resources)
            switch MeshCompiler.compile(loaded.resources, for: subject) {
            case .success(let node):
                return try Explainer.explain(request(), in: node)
            case .failure(let failure):
                throw ExplainError(failure.errors.map(\.description).joined(separator: "\n"))
            }
        } catch {
            throw Failure(message: error.description)
        }
    }

    private func request() throws(ExplainError) -> ExplainRequest {
        guard let headers = try? fields() else { throw ExplainError("a header is not 'name: value'") }
        let url = words[words.count - 1]
        // A gRPC call is always a POST.
        let method = words.count == 2 ? words[0] : url.lowercased().hasPrefix("grpc://") ? "POST" : "GET"
        return ExplainRequest(from: from, instance: instance, method: method, url: url, headers: headers)
    }

    private func fields() throws -> [HeaderField] {
        try headers.map { header in
            // The colon of a pseudo-header is no separator.
            guard let colon = header.dropFirst().firstIndex(of: ":") else {
                throw ValidationError("-H: expected 'name: value', found \"\(header)\".")
            }
            let value = header[header.index(after: colon)...].drop { $0 == " " }
            return HeaderField(name: String(header[..<colon]), value: String(value))
        }
    }

    private func show(_ explanation: Explanation, _ screen: Screen) throws {
        if output == .json { return screen.print(try ControlJSON.text(explanation)) }
        screen.print(Self.text(explanation, screen))
    }

    static func text(_ explanation: Explanation, _ screen: Screen) -> String {
        var lines: [String] = []
        for step in explanation.steps {
            lines.append("\(screen.styled(step.what, .bold)) \(harmless(step.name))")
            lines += step.text.split(separator: "\n").map { line in
                let isWarning = line.hasPrefix("warning: ")
                return "  " + screen.styled(harmless(String(line)), isWarning ? .warning : .plain)
            }
            lines += step.silentDefaults.map { screen.styled("  ~ \(harmless($0))", .dim) }
        }
        if let reply = explanation.localReply { lines.append(screen.styled("=> \(harmless(reply))", .bad)) }
        return lines.joined(separator: "\n")
    }
}
