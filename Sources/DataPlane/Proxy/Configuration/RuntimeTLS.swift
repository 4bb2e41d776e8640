import Base
import ProxyConfig
import Synchronization
import Transport

/// The TLS of a filter chain or of a cluster: the context that new connections get. Certificates may change under it.
final class RuntimeTLS: Sendable {
    private struct State {
        var context: TLSContext?
        var problem: String?
    }

    private let state: Mutex<State>

    init(_ context: TLSContext?, problem: String? = nil) {
        state = Mutex(State(context: context, problem: problem))
    }

    /// Nil: no certificate could be loaded so far. Nothing is served then, never plaintext instead.
    var context: TLSContext? { state.withLock { $0.context } }
    /// Why not.
    var problem: String? { state.withLock { $0.problem } }

    /// A new certificate: for connections from now on.
    func replace(_ context: TLSContext) {
        state.withLock { $0 = State(context: context, problem: nil) }
    }

    /// None can be loaded, and none was before.
    func fail(_ problem: String) {
        state.withLock { $0.problem = problem }
    }
}
