import Base
import MeshModel
import ProxyConfig

/// Values that no file names. App Mesh applied most of them without a word; we show them.
enum Defaults {
    static let appMesh = "App Mesh default"
    static let outrigger = "Outrigger default"

    static let requestTimeout = Duration.seconds(15)
    static let idleTimeout = Duration.seconds(300)
    static let connectTimeoutToNode = Duration.seconds(1)
    static let connectTimeoutToApp = Duration.milliseconds(250)
    /// Where no interception tells the proxy what a connection was for, an address does.
    static let inboundPort: Port = 15000
    static let outboundPort: Port = 15001
    static let adminPort: Port = 9901
    static let drainTime = Duration.seconds(20)
    /// Inside of the mesh a connection carries the calls of a whole sidecar: a client with a thousand streams open needs no second one.
    /// Strangers at a gateway get `HTTP2Options`' own 100.
    static let maxConcurrentStreams: UInt32 = 1024
    /// Towards nodes that speak TLS, which are sidecars nearly always. A bare gRPC server takes PINGs more often than every 5 minutes for
    /// an attack and closes the connection.
    static let keepalive = HTTP2Keepalive(interval: .seconds(30), timeout: .seconds(10))
    /// Envoy's, and never below the base: an ejection must be able to last as long as its owner said.
    static let maxEjectionTime = Duration.seconds(300)

    /// What App Mesh did on every route without a retryPolicy, services that a node provides included.
    static let retryPolicy = RetryPolicy(
        retryOn: ["unavailable", "connect-failure", "refused-stream", "retriable-status-codes", "reset"], retriableStatusCodes: [503],
        maxRetries: 2, perTryTimeout: nil, hostSelectionMaxAttempts: 5)
}

extension RetryPolicy {
    /// The words of App Mesh in those of Envoy. Nil: no retries were asked for.
    init?(_ policy: RouteRetryPolicy) {
        guard policy.maxRetries > 0 else { return nil }
        var words: [String] = []
        var codes: Set<Int> = []
        for event in policy.httpRetryEvents {
            switch event {
            case .serverError:
                codes.formUnion([500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511])
                words.append("reset")
            case .gatewayError:
                codes.formUnion([502, 503, 504])
                words.append("reset")
            case .clientError:
                codes.insert(409)
            case .streamError:
                words.append("refused-stream")
            }
        }
        if !codes.isEmpty { words.append("retriable-status-codes") }
        words += policy.tcpRetryEvents.map { _ in "connect-failure" }
        words += policy.grpcRetryEvents.map(\.rawValue)
        self.init(
            retryOn: Set(words).sorted(), retriableStatusCodes: codes.sorted(), maxRetries: policy.maxRetries,
            perTryTimeout: policy.perRetryTimeout > .zero ? policy.perRetryTimeout : nil)
    }
}
