import ControlAPI
import EventStore
import Foundation
import HTTPServer
import Projections

/// `GET /v1/events`: one JSON object a line, and with `follow` every event as it is recorded.
struct EventFeed {
    private static let page = 1000
    /// A follower with so much unread is cut off: it would hear of events long after.
    private static let maxUnread = 4 << 20

    private let controller: Controller

    init(_ controller: Controller) {
        self.controller = controller
    }

    func serve(_ request: APIRequest) {
        let newest = controller.journal.models.sequence
        switch (request.number("after"), request.number("limit")) {
        case (.failure(let problem), _), (_, .failure(let problem)): request.refuse(problem)
        case (.success(let after), .success(let limit)):
            let limit = min(limit ?? 100, 10_000)
            request.exchange.begin(status: 200, headers: [("content-type", "application/x-ndjson")])
            send(request, after: after ?? max(0, newest - limit), left: after == nil || !request.isFollowing ? limit : .max)
        }
    }

    /// Page after page, as the caller reads.
    private func send(_ request: APIRequest, after sequence: Int, left: Int) {
        controller.journal.read { log in
            try log.events(after: sequence, limit: min(left, Self.page))
        } then: { result in
            guard request.exchange.isOpen else { return }
            guard case .success(let events) = result else { return request.exchange.reset() }
            request.exchange.send(Self.lines(events))
            let rest = left == .max ? left : left - events.count
            if let last = events.last, rest > 0, events.count == Self.page {
                return whenRead(request) { send(request, after: last.sequence, left: rest) }
            }
            guard request.isFollowing else { return request.exchange.end() }
            follow(request, from: events.last?.sequence ?? sequence)
        }
    }

    private func whenRead(_ request: APIRequest, _ body: @escaping () -> Void) {
        guard request.exchange.queuedBytes > 0 else { return body() }
        request.exchange.onDrained = {
            request.exchange.onDrained = nil
            body()
        }
    }

    private func follow(_ request: APIRequest, from sequence: Int) {
        // What was recorded while the last page was read.
        guard controller.journal.models.sequence == sequence else { return send(request, after: sequence, left: .max) }
        let exchange = request.exchange
        var id = 0
        id = controller.follow { [controller] events in
            guard exchange.queuedBytes < Self.maxUnread else {
                controller.strangers.warning("http", "\(exchange.peer): cut off: it follows the events and does not read them")
                // An exchange that we end ourselves is not told to us as closed.
                controller.unfollow(id)
                return exchange.reset()
            }
            exchange.send(Self.lines(events))
        }
        exchange.onClosed = { [controller] _ in controller.unfollow(id) }
    }

    private static func lines(_ events: [StoredEvent]) -> [UInt8] {
        var bytes: [UInt8] = []
        for event in events {
            guard let line = try? APIRequest.encoder.encode(EventItem(event)) else { continue }
            bytes += line
            bytes.append(UInt8(ascii: "\n"))
        }
        return bytes
    }
}
