import Synchronization
import TestSupport

/// Callers that send one GET after the other until they are stopped, and count what they get.
final class Load: Sendable {
    struct Tally: Sendable {
        var statuses: [Int: Int] = [:]
        /// No whole answer: the connection broke, or could not be opened.
        var broken: [String] = []
        /// The first answers other than 200.
        var refusals: [String] = []

        var total: Int { statuses.values.reduce(0, +) + broken.count }
        func count(_ status: Int) -> Int { statuses[status] ?? 0 }
        var failures: Int { total - count(200) }
    }

    private let tally = Mutex(Tally())
    private let isStopped = Mutex(false)
    private let crew: Threads.Crew
    private let connect: @Sendable () throws -> RawConnection

    /// - Parameters:
    ///   - requestsPerConnection: then the caller opens another.
    ///   - connect: how; plaintext if nil.
    init(
        port: UInt16, callers: Int = 4, requestsPerConnection: Int = 50, connect: (@Sendable () throws -> RawConnection)? = nil,
        request: @escaping @Sendable (Int) -> String
    ) {
        self.connect = connect ?? { try RawConnection(to: port) }
        let crewBox = Mutex<Load?>(nil)
        crew = Threads.start(callers) { _ in
            var load: Load?
            try eventually("the load is there") {
                load = crewBox.withLock { $0 }
                return load != nil
            }
            load?.run(requestsPerConnection, request)
        }
        crewBox.withLock { $0 = self }
    }

    convenience init(
        port: UInt16, callers: Int = 4, requestsPerConnection: Int = 50, path: String = "/",
        connect: (@Sendable () throws -> RawConnection)? = nil
    ) {
        self.init(port: port, callers: callers, requestsPerConnection: requestsPerConnection, connect: connect) { _ in
            "GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n"
        }
    }

    private func run(_ requestsPerConnection: Int, _ request: (Int) -> String) {
        var number = 0
        while !isStopped.withLock({ $0 }) {
            do {
                let connection = try connect()
                for _ in 0..<requestsPerConnection {
                    if isStopped.withLock({ $0 }) { return }
                    number += 1
                    let answer = try connection.exchange(request(number))
                    tally.withLock {
                        $0.statuses[answer.status, default: 0] += 1
                        if answer.status != 200, $0.refusals.count < 10 { $0.refusals.append("\(answer.headText)\(answer.bodyText)") }
                    }
                    if answer.saysClose { break }
                }
            } catch {
                tally.withLock { $0.broken.append("\(error)") }
            }
        }
    }

    var sofar: Tally { tally.withLock { $0 } }

    /// Waits until so many more answers have come, as long as there is progress.
    func wait(for count: Int) throws {
        let end = sofar.total + count
        while sofar.total < end {
            let total = sofar.total
            try eventually("another answer; \(end - total) are missing") { sofar.total > total }
        }
    }

    func stop() throws -> Tally {
        isStopped.withLock { $0 = true }
        try crew.join()
        return sofar
    }
}
