import CLinux
import Glibc

/// The signals a program of ours answers to, as events of a loop instead of interruptions.
public enum Signal: Sendable {
    /// SIGTERM or SIGINT: drain, then end.
    case terminate
    /// SIGHUP: look at the configuration again.
    case reload
    /// SIGUSR1: reopen log files.
    case reopenLogs
}

/// Delivers signals on a loop. Make it before any other thread is started: threads inherit the blocked set.
public final class SignalSource: EventSource {
    private let receive: (Signal) -> Void

    public init(receive: @escaping (Signal) -> Void) throws(SystemError) {
        let descriptor = clinux_signalfd()
        guard descriptor >= 0 else { throw SystemError(-descriptor) }
        self.receive = receive
        super.init(adopting: descriptor)
    }

    public override func ready(_ readiness: Readiness) {
        while true {
            switch clinux_signalfd_next(descriptor) {
            case 0: return
            case SIGTERM, SIGINT: receive(.terminate)
            case SIGHUP: receive(.reload)
            case SIGUSR1: receive(.reopenLogs)
            default: break
            }
        }
    }
}

/// Tells when something changes in a folder. Says nothing of what: look again.
public final class FolderWatch: EventSource {
    private let changed: () -> Void

    public init(folder: String, changed: @escaping () -> Void) throws(SystemError) {
        let descriptor = unsafe clinux_inotify_folder(folder)
        guard descriptor >= 0 else { throw SystemError(-descriptor) }
        self.changed = changed
        super.init(adopting: descriptor)
    }

    public override func ready(_ readiness: Readiness) {
        var scratch = [UInt8](repeating: 0, count: 4096)
        while case .bytes = unsafe scratch.withUnsafeMutableBytes({ unsafe Socket.read(descriptor, into: $0) }) {}
        changed()
    }
}

/// Names the calling thread in `top` and `ps`, at most 15 bytes.
public func nameThread(_ name: String) {
    unsafe clinux_name_thread(name)
}
