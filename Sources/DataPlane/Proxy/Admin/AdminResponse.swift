import Base
import ConfigText
import ProxyConfig
import Reactor
import Telemetry

/// What a request orders, done after its answer was written.
enum AdminAction: Hashable {
    case drain
    case quit
    case setLogLevel(ProcessLog.Level)
    case forceBreaker(BreakerOverride)
    case releaseBreaker(BreakerOverride.Target)
}

/// An answer of the admin interface.
struct AdminResponse: ~Copyable {
    static let text = "text/plain; charset=utf-8"
    static let json = "application/json"

    var status = 200
    var contentType = AdminResponse.text
    /// The Allow field of a 405.
    var allow: String?
    var body = ByteBuffer()
    var action: AdminAction?

    init() {}

    init(status: Int = 200, _ text: String) {
        self.status = status
        body.append(text)
    }

    init(_ document: Document) {
        contentType = Self.json
        body.append(JSONWriter.write(document))
    }

    /// RFC 9110 section 6.6.1 wants it of whoever has a clock.
    var date: String { Timestamp.http(Clock.realtime()) }
}
