import ArgumentParser
import ControlAPI

struct Events: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what happened in the mesh, oldest first.",
        discussion: """
            Changes by people, proxies that come and go, what they accept, refuse and run, rollouts. json is one object a line.

            EXAMPLES
              outrigger events
              outrigger events --follow
              outrigger events --after 1200 -o json | jq .summary
            """)

    @OptionGroup var control: ControlOptions

    @Flag(name: .shortAndLong, help: "Goes on with what happens.")
    var follow = false

    @Option(help: ArgumentHelp("Only what came after this event.", valueName: "sequence"))
    var after: Int?

    @Option(help: ArgumentHelp("How many at most.", valueName: "count"))
    var limit: Int?

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        var last = after
        // One that is not there at all, at first, is most likely a mistake.
        var wasThere = false
        while true {
            _ = try session.patiently {
                do {
                    try read(after: &last, session)
                } catch let failure as Failure where !follow || !wasThere && failure.absence == .unreachable {
                    throw Failure(message: failure.message, status: failure.status)
                }
            }
            wasThere = true
            // A control plane that ends goes on where it was when it is back.
            guard follow, session.screen.pause(.seconds(1)) else { return }
        }
    }

    /// One answer; of `--follow` it ends with the control plane.
    private func read(after last: inout Int?, _ session: Session) throws {
        let path = ControlPath(
            "/v1/events", ["after": last.map { "\($0)" }, "limit": limit.map { "\($0)" }, "follow": follow ? "true" : nil])
        var lines = LineReader()
        var newest = last
        defer { last = newest }
        var failure: (any Error)?
        try session.call(ControlCall(path: path.description, timeout: follow ? nil : .seconds(30))) { piece in
            do {
                for line in lines.add(piece) {
                    let event = try ControlJSON.decode(EventItem.self, line)
                    newest = event.sequence
                    show(event, line, session.screen)
                }
                return true
            } catch {
                failure = error
                return false
            }
        }
        if let failure { throw Failure(message: "\(session.client.address) sent an event that cannot be read: \(failure)") }
    }

    private func show(_ event: EventItem, _ line: [UInt8], _ screen: Screen) {
        guard output == .table else { return screen.print(String(decoding: line, as: UTF8.self)) }
        let reason = event.reason.map { " (\($0))" } ?? ""
        let time = screen.styled(Times.clock(event.time), .dim)
        screen.print("\(time)  \(event.sequence)  \(harmless(event.actor))  \(harmless("\(event.summary)\(reason)"))")
    }
}

/// Cuts a stream into lines.
struct LineReader {
    /// A line that is longer than any event can be is none.
    private static let maxLine = 16 << 20

    private var rest: [UInt8] = []

    /// The lines that are whole now, without their ends and without empty ones.
    mutating func add(_ piece: [UInt8]) -> [[UInt8]] {
        rest += piece
        var lines = rest.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        rest = Array(lines.removeLast())
        if rest.count > Self.maxLine { rest = [] }
        return lines.filter { !$0.isEmpty }.map(Array.init)
    }
}
