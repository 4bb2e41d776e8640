import Base
import EventStore
import HTTP
import HTTPServer
import Projections
import XDSWire

/// The stream on which a proxy tells how it is (`/outrigger.v1.Reports/Stream`). While it is open the proxy is there.
final class ReportService {
    /// What one report may have in bytes: `ReportLimits`, with room.
    static let maxMessageBytes = 16 << 20

    private let controller: Controller
    private var streams: [Int: Stream] = [:]
    private var nextStream = 1

    private final class Stream {
        let call: GRPCServerStream
        var client: ClientNode?
        var key: InstanceKey?

        init(_ call: GRPCServerStream) {
            self.call = call
        }
    }

    init(_ controller: Controller) {
        self.controller = controller
    }

    /// The control plane ends. Nothing is recorded of it: the proxies are still there.
    func end() {
        for stream in streams.values { stream.call.finish(GRPC.Status.unavailable, "the control plane is ending") }
    }

    func open(_ exchange: HTTPExchange) {
        guard let call = GRPCServerStream(exchange, maxMessageBytes: Self.maxMessageBytes) else { return }
        let id = nextStream
        nextStream += 1
        let stream = Stream(call)
        streams[id] = stream
        call.onMessage = { [unowned self] in received($0, id, stream) }
        call.onEnd = { [unowned self] in
            call.finish()
            closed(id, stream)
        }
        call.onClosed = { [unowned self] _ in closed(id, stream) }
        call.begin()
        call.send(ReportReply(interval: UInt64(controller.options.reportInterval.count / 1_000_000)).encoded())
    }

    private func received(_ message: [UInt8], _ id: Int, _ stream: Stream) {
        let report: NodeReport
        do throws(WireErrors) {
            report = try NodeReport(decoding: message)
        } catch {
            return refuse(id, stream, GRPC.Status.invalidArgument, "\(error)")
        }
        if stream.client == nil {
            guard let node = report.node else {
                return refuse(
                    id, stream, GRPC.Status.invalidArgument, "NodeReport node: expected a value in the first report, found nothing")
            }
            stream.client = node
        }
        guard let client = stream.client else { return }
        if stream.key == nil {
            // A proxy of a node that no resource describes is heard of again when there is one.
            guard let subject = controller.subjects.subject(of: client) else { return }
            let key = client.instanceKey(of: subject)
            if let problem = controller.refusal(of: stream.call.exchange, as: subject) {
                return refuse(id, stream, GRPC.Status.permissionDenied, problem)
            }
            let peer = stream.call.exchange.peer
            if let problem = controller.conflict(key, client, from: peer, startedAt: report.startedAt) {
                controller.strangers.warning("fleet", "\(peer): refused: \(problem)")
                return refuse(id, stream, GRPC.Status.alreadyExists, problem)
            }
            if let open = controller.fleet[key]?.reportStream, let old = streams.removeValue(forKey: open) {
                old.key = nil
                old.call.finish(GRPC.Status.aborted, "another stream of the same proxy has taken over")
            }
            stream.key = key
            controller.arrived(key, client, from: peer, reportStream: id)
        }
        if let key = stream.key { controller.reported(key, report) }
    }

    private func refuse(_ id: Int, _ stream: Stream, _ status: UInt32, _ problem: String) {
        stream.call.finish(status, problem)
        closed(id, stream)
    }

    private func closed(_ id: Int, _ stream: Stream) {
        streams[id] = nil
        if let key = stream.key { controller.reportsEnded(key, reportStream: id) }
        stream.key = nil
    }
}
