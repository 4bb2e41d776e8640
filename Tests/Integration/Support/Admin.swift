import TestSupport

extension Proxy {
    /// A page of the admin interface.
    func page(_ path: String) throws -> String {
        let answer = try RawConnection(to: admin).exchange("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        guard answer.status == 200 else { throw TestFailure("\(path): \(answer.headText)\(answer.bodyText)") }
        return answer.bodyText
    }

    /// Waits for the sum: an event is counted a moment after it is seen.
    func wait(for ending: String, _ count: Int) throws {
        var last = -1
        try eventually("\(ending) is \(last), not \(count)") {
            last = try self.count(ending)
            return last == count
        }
    }

    /// The sum of all counters whose name ends so.
    func count(_ ending: String) throws -> Int {
        try page("/stats").split(separator: "\n").reduce(0) { sum, line in
            let parts = line.split(separator: ":")
            guard parts.count == 2, parts[0].hasSuffix(ending) else { return sum }
            return sum + (Int(parts[1].drop { $0 == " " }) ?? 0)
        }
    }
}
