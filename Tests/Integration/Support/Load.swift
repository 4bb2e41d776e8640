import Synchronization
import TestSupport

/// Callers that send one GET after the other until they are stopped, and count what they get.
final class Load: Sendable {
    struct Tally: Sendable {
        var statuses: [Int: Int] = [:]
        /// No whole answer: the connection broke, or could not be opened.
        var broken: [String] = []

        var total: Int { statuses.values.reduce(0, +) + broken.count }
        func count(_ status: Int) -> Int { statuses[status] ?? 0 }
        var failures: Int { total - count(200) }
    }

    private let tally = Mutex(Tally())
    private let isStopped = Mutex(false)
    private let crew: Threads.Crew

    /// - Parameter requestsPerConnection: then the caller opens another.
    init(port: UInt16, callers: Int = 4, requestsPerConnection: Int = 50, request: @escaping @Sendable (Int) -> String) {
        let crewBox = Mutex<Load?>(nil)
        crew = Threads.start(callers) { caller in
            var load: Load?
            try eventually("the load is there") {
                load = crewBox.withLock { $0 }
                return load != nil
            }
            load?.run(port, caller, requestsPerConnection, request)
        }
        crewBox.withLock { $0 = self }
    }

    convenience init(port: UInt16, callers: Int = 4, requestsPerConnection: Int = 50, path: String = "/") {
        self.init(port: port, callers: callers, requestsPerConnection: requestsPerConnection) { _ in
            "GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n"
        }
    }

    private func run(_ port: UInt16, _ caller: Int, _ requestsPerConnection: Int, _ request: (Int) -> String) {
        var number = 0
        while !isStopped.withLock({ $0 }) {
            do {
                let connection = try RawConnection(to: port)
                for _ in 0..<requestsPerConnection {
                    if isStopped.withLock({ $0 }) { return }
                    number += 1
                    let answer = try connection.exchange(request(number))
                    tally.withLock { $0.statuses[answer.status, default: 0] += 1 }
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
