import ArgumentParser
import ControlAPI
import Foundation

@testable import outrigger

/// Answers calls from a list, and remembers them.
final class FakeControlPlane: ControlClient {
    let address = "127.0.0.1:15010"
    /// `GET /v1/status`: its answers, one after the other; the last one stays.
    private var answers: [String: [ControlAnswer]] = [:]
    private(set) var calls: [ControlCall] = []
    var failure: ControlFailure?
    /// The numbers of the calls, from 0, that nobody answers.
    var lost: Set<Int> = []

    /// - Parameter call: Method and path; without the query it stands for every query.
    func on(_ call: String, _ values: any Encodable..., status: Int = 200) throws {
        answers[call] = try values.map { ControlAnswer(status: status, body: try ControlJSON.encode($0)) }
    }

    func on(_ call: String, text: String, status: Int = 200) {
        answers[call] = [ControlAnswer(status: status, body: Array(text.utf8))]
    }

    func call(_ call: ControlCall, onPiece: (([UInt8]) -> Bool)?) throws(ControlFailure) -> ControlAnswer {
        calls.append(call)
        if let failure { throw failure }
        if lost.contains(calls.count - 1) { throw ControlFailure(reason: "connection refused", isUnreachable: true) }
        let exact = "\(call.method) \(call.path)"
        let bare = String(exact.prefix { $0 != "?" })
        let key = answers[exact] != nil ? exact : bare
        guard var list = answers[key], let answer = list.first else {
            throw ControlFailure(reason: "the test has no answer for \(exact)")
        }
        if list.count > 1 {
            list.removeFirst()
            answers[key] = list
        }
        guard let onPiece, answer.status == 200 else { return answer }
        // In small pieces, as a network may.
        var rest = answer.body[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(7))
            rest = rest.dropFirst(7)
            if !onPiece(piece) { break }
        }
        return ControlAnswer(status: 200, body: [])
    }

    func body<Value: Decodable>(_ type: Value.Type, of index: Int = 0) throws -> Value {
        try ControlJSON.decode(type, calls[index].body)
    }
}

/// A screen that keeps what is written, with a clock of its own.
final class Paper {
    private(set) var out = ""
    private(set) var notes = ""
    private(set) var now = Times.date("2026-11-23T14:00:00Z")!
    /// How often a command may wait before it is told to stop.
    var patience = 0

    func session(_ client: FakeControlPlane, namespace: String? = nil, isTerminal: Bool = false, usesColor: Bool = false) -> Session {
        let screen = Screen(
            print: { self.out += $0.hasSuffix("\n") ? $0 : $0 + "\n" }, note: { self.notes += $0 + "\n" }, isTerminal: isTerminal,
            usesColor: usesColor, now: { self.now },
            pause: { time in
                self.now += Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
                self.patience -= 1
                return self.patience >= 0
            })
        return Session(client: client, screen: screen, namespace: namespace)
    }
}

/// Parses a command line and runs it.
@discardableResult
func run(_ line: [String], _ client: FakeControlPlane, _ paper: Paper = Paper(), namespace: String? = nil) throws -> Paper {
    var command = try OutriggerCommand.parseAsRoot(line)
    guard let control = command as? any ControlCommand else {
        try command.run()
        return paper
    }
    try control.run(paper.session(client, namespace: namespace))
    return paper
}
