import ControlAPI
import Foundation
import MeshModel
import MeshYAML

/// What a command works with: a control plane, and a place to write.
final class Session {
    let client: any ControlClient
    let screen: Screen
    /// Of the context, for commands that name none.
    let namespace: String?
    private var isAway = false

    init(client: any ControlClient, screen: Screen, namespace: String? = nil) {
        self.client = client
        self.screen = screen
        self.namespace = namespace
    }

    // MARK: Calls

    func get<Answer: Decodable>(_ path: String, _ query: KeyValuePairs<String, String?> = [:], as: Answer.Type = Answer.self) throws
        -> Answer
    {
        try decode(call(ControlCall(path: ControlPath(path, query).description)))
    }

    func post<Answer: Decodable>(_ path: String, _ body: some Encodable, as: Answer.Type = Answer.self) throws -> Answer {
        try decode(call(ControlCall(method: "POST", path: path, body: ControlJSON.encode(body))))
    }

    @discardableResult
    func call(_ call: ControlCall, onPiece: (([UInt8]) -> Bool)? = nil) throws -> [UInt8] {
        let answer: ControlAnswer
        do throws(ControlFailure) {
            answer = try client.call(call, onPiece: onPiece)
        } catch {
            throw Failure(message: Self.words(error, client.address), absence: error.isUnreachable ? .unreachable : .lost)
        }
        guard 200..<300 ~= answer.status else { throw refusal(answer) }
        return answer.body
    }

    private func decode<Answer: Decodable>(_ body: [UInt8]) throws -> Answer {
        do {
            return try ControlJSON.decode(Answer.self, body)
        } catch {
            throw Failure(message: "the answer of \(client.address) is not what this version of outrigger expects: \(error)")
        }
    }

    static func words(_ failure: ControlFailure, _ address: String) -> String {
        guard failure.isUnreachable else { return "\(address): \(failure.reason)" }
        return """
            no control plane answers at \(address): \(failure.reason)
              Start one with 'outriggerd --data-dir DIR', or say where it is: --control-plane, --context or OUTRIGGER_CONTROL_PLANE.
            """
    }

    /// Tells the diagnostics of a problem, one a line, and makes its end of it.
    private func refusal(_ answer: ControlAnswer) -> Failure {
        guard let problem = try? ControlJSON.decode(Problem.self, answer.body) else {
            return Failure(message: "\(client.address) answered with status \(answer.status)\(Self.hint(answer.status))")
        }
        let diagnostics = problem.diagnostics ?? []
        tell(diagnostics)
        var text = problem.title
        if let detail = problem.detail, detail != problem.title { text += ": \(detail)" }
        return Failure(message: harmless(text) + Self.hint(answer.status))
    }

    private static func hint(_ status: Int) -> String {
        switch status {
        case 401: "\n  Give a token: OUTRIGGER_TOKEN, or 'outrigger context set NAME --token-file FILE'."
        case 403: "\n  The token's role does not allow it; 'outrigger token create --role write' makes another."
        default: ""
        }
    }

    /// Errors and warnings of files, as `outrigger validate` prints them.
    func tell(_ diagnostics: [DiagnosticMessage]) {
        for diagnostic in diagnostics {
            screen.note(harmless(diagnostic.text))
        }
    }

    // MARK: What commands share

    func printJSON(_ value: some Encodable) throws {
        screen.print(try ControlJSON.text(value))
    }

    func show(_ table: TextTable) {
        screen.print(table.text(colored: screen.usesColor))
    }

    /// Reads files for the control plane to look into.
    func sources(_ paths: [String], standardInput: () throws -> String? = StandardInput.read) throws -> [SourceText] {
        let read = MeshLoader.read(paths: paths, standardInput: paths.contains(MeshLoader.standardInputPath) ? try standardInput() : nil)
        guard read.diagnostics.isEmpty else {
            for diagnostic in read.diagnostics { screen.note("\(diagnostic)") }
            throw Failure(message: "the files cannot be read: \(counted(read.diagnostics.count, "error"))")
        }
        return try read.files.map { file in
            guard let text = String(validating: file.bytes, as: UTF8.self) else { throw Failure(message: "\(file.name): not UTF-8") }
            return SourceText(name: file.name, text: text)
        }
    }

    /// For commands that go on for long: a control plane that is restarted meanwhile is waited for, and the reason told once.
    ///
    /// - Returns: Nil: not now.
    func patiently<Value>(_ body: () throws -> Value) throws -> Value? {
        do {
            let value = try body()
            isAway = false
            return value
        } catch let failure as Failure where failure.absence != nil {
            if !isAway { screen.note("\(failure.message.prefix { $0 != "\n" }); trying again") }
            isAway = true
            return nil
        }
    }

    /// Looks again and again until nobody wants to any more.
    func watch(every interval: TimeSpan, _ page: () throws -> String) throws {
        screen.show(try page(), isFirst: true)
        while screen.pause(interval.duration) {
            if let page = try patiently(page) { screen.show(page, isFirst: false) }
        }
    }
}

extension DiagnosticMessage {
    /// `message`, with its place before it if it has none.
    var text: String {
        guard let file, !message.hasPrefix(file) else { return message }
        let place = [file, line.map(String.init), column.map(String.init)].compactMap(\.self).joined(separator: ":")
        return "\(place): \(message)"
    }
}

extension ResourceName {
    /// `VirtualNode/cart`.
    var short: String { "\(kind)/\(name)" }
    /// `shop/cart`; `cart` of a Mesh.
    var path: String { namespace.map { "\($0)/\(name)" } ?? name }
}
