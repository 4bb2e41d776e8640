import Base
import HTTP
import HTTP1
import Routing
import Telemetry

extension Stream {
    /// How long its bodies may stand still; nil = for ever, as those of gRPC calls may: their readers say by it how much they can take.
    var patienceWithBodies: Nanoseconds? {
        GRPC.isGRPC(requestHead) ? nil : route?.idleTimeout
    }

    /// The process has no room for another request: an answer that costs little, and that no hop before should try again.
    func shed(by worker: Worker) {
        worker.stats.overloadRequestsRefused.increment()
        reply(status: 503, flags: .overloadManager, details: "overload", body: "the proxy is overloaded")
    }
}

extension Head {
    /// Envoy's word, and ours for those who know more than one kind of overload.
    func tellOverload() {
        append(name: "x-envoy-overloaded", value: "true".utf8, known: .envoyOverloaded)
        append(name: "x-outrigger-overloaded", value: "true".utf8, known: .other)
    }
}

extension Framing {
    /// The body's length was declared: until it is reached, more must come.
    var isLength: Bool {
        if case .length(let count) = self { count > 0 } else { false }
    }
}
